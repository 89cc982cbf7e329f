"""Seconds of the demo study and of the ladder study's dry run, in a fresh clone: ``python benchmarks/workflow.py``.

Uses the environment that runs it; the warm worker of an earlier run is not used (it would be warm already).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SNAKEMAKE = [sys.executable, "-m", "snakemake"]


def seconds(name: str, command: list[str], folder: Path) -> None:
    started = time.perf_counter()
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    print(f"{name}: {took:.1f} s" if result.returncode == 0 else f"{name}: failed\n{result.stderr[-3000:]}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        seconds("dry run of config/ladder.yaml", [*SNAKEMAKE, "-n", "--configfile", "config/ladder.yaml"], clone)
        seconds("dry run of the demo", [*SNAKEMAKE, "--profile", "profiles/demo", "-n"], clone)
        seconds("demo, 2 cores", [*SNAKEMAKE, "--profile", "profiles/demo"], clone)
        report = ["--profile", "profiles/demo", "--report", "report.html"]
        seconds("report of the demo", [*SNAKEMAKE, *report], clone)


if __name__ == "__main__":
    main()
