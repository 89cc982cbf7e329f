"""Numbers as people write them."""

import pytest

from stratalaw.units import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (1200, "1,200 jobs")])
def test_one_thing_has_no_plural(number, text):
    assert counted(number, "job") == text
