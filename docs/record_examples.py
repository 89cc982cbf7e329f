"""Run the examples of the reference again and record what they print: ``python docs/record_examples.py [COMMAND ...]``

An example begins with the command line, after a ``$``. One that fails is left as it is.
"""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent / "examples"
COLUMNS = "100"


def record(path: Path) -> None:
    command = path.read_text().partition("\n")[0]
    ran = subprocess.run(
        command.removeprefix("$ "), shell=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": COLUMNS}
    )
    if ran.returncode:
        print(f"{path.name}: {ran.stderr.strip()}", file=sys.stderr)
        return
    printed = "\n".join(line.rstrip() for line in ran.stdout.strip("\n").splitlines())
    path.write_text(f"{command}\n{printed}".rstrip() + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in EXAMPLES.glob("*.txt")):
        record(EXAMPLES / f"{name}.txt")
