"""The rooms of the library do not import each other."""

import subprocess
import sys

from tests.structure import rooms_and_circles


def test_no_rooms_import_each_other():
    rooms, in_circle = rooms_and_circles()
    assert "stratalaw.laws" in rooms and in_circle == []


def test_a_circle_is_found_and_named(tmp_path):
    for room, other in (("first", "second"), ("second", "first"), ("third", "first")):
        module = tmp_path / "stratalaw" / room / "module.py"
        module.parent.mkdir(parents=True)
        (module.parent / "__init__.py").touch()
        module.write_text(f"def late():\n    import stratalaw.{other}.module\n")
    (tmp_path / "stratalaw" / "__init__.py").touch()
    script = [sys.executable, "tests/structure.py"]
    shown = subprocess.run(script, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert shown.stdout == "stratalaw: 3 rooms, 2 of them in import circles: first, second\n"
    assert shown.returncode == 1
