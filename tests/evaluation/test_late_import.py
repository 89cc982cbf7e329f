"""A module that is imported later is changed then; one that never is costs nothing."""

import subprocess
import sys

import pytest

CODE = """
import sys
from stratalaw.evaluation.late_import import changed_when_imported
{before}
with changed_when_imported("colorsys", lambda module: setattr(module, "ONE_THIRD", 3)):
    {within}
print("colorsys" in sys.modules)
if "colorsys" in sys.modules:
    import colorsys
    print(colorsys.ONE_THIRD)
"""


@pytest.mark.parametrize(
    ("before", "within", "said"),
    [("import colorsys", "pass", "True 3"), ("", "import colorsys", "True 3"), ("", "pass", "False")],
    ids=["imported before", "imported within", "never imported"],
)
def test_a_module_is_changed_once_it_is_there(before, within, said):
    code = CODE.format(before=before, within=within)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == said.split()
