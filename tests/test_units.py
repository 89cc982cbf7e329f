"""Numbers as people write them."""

import pytest

from stratalaw.units import counted, parse_bytes


@pytest.mark.parametrize(("number", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (1200, "1,200 jobs")])
def test_one_thing_has_no_plural(number, text):
    assert counted(number, "job") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12GB", 12 * 10**9), ("0.5 GB", 5 * 10**8), (".5kb", 500), ("11.5GiB", int(11.5 * 2**30)), ("7B", 7)],
)
def test_amounts_of_memory(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["12", "12,5GB", "1,000GB", "12.5.5GB", "80%", "8GB+4GB", "12GB foo", "-1GB", "nanGB", ""]
)
def test_what_is_no_amount_is_refused_whole(text):
    with pytest.raises(ValueError, match="not an amount such as 12GB"):
        parse_bytes(text)
