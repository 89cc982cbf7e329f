"""CPU seconds to plan a study of thousands of variants, before anything was made: ``python benchmarks/planning.py``.

The study has models of the ladder under other names, with 192 variants of each; 26 of them if no other numbers of
models are given. Two dry runs of the workflow and the commands that look at a whole study.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
DRY_RUN = ["-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "-n", "--configfile", "study.yaml"]
COMMANDS = {
    "dry run": [*DRY_RUN, "--quiet"],
    "dry run that lists the jobs for Slurm": [*DRY_RUN, "--profile", str(ROOT / "profiles" / "slurm")],
    **{
        f"stratalaw {name}": ["-c", "from stratalaw.cli import app; app()", name, "study.yaml"]
        for name in ("preflight", "status", "cost", "verify")
    },
}


def write_study(path: Path, n_models: int) -> None:
    study = yaml.safe_load((ROOT / "config" / "ladder.yaml").read_text())
    sources = [str(ROOT / model["source"]) for model in study["models"]]
    study["models"] = [
        {"name": f"m{i}", "source": sources[i % len(sources)], "family": "ladder"} for i in range(n_models)
    ]
    study["grids"] = [
        {
            "bits": [2, 3, 4, 8],
            "group_size": [16, 32, 64, 128],
            "calibration_size": [2, 8, 32, 128],
            "calibration_seed": [0, 1, 2],
        }
    ]
    study["calibration"]["corpus"] = str(ROOT / study["calibration"]["corpus"])
    study["evaluation"]["tasks_folder"] = str(ROOT / study["evaluation"]["tasks_folder"])
    path.write_text(yaml.safe_dump(study, sort_keys=False))


def cpu_seconds(command: list[str], folder: Path) -> float:
    """User and system time of a command and its children: other work on the machine does not count."""
    before = os.times()
    subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    for n_models in map(int, sys.argv[1:] or ["26"]):
        with tempfile.TemporaryDirectory() as folder:
            write_study(Path(folder) / "study.yaml", n_models)
            for name, command in COMMANDS.items():
                print(f"{192 * n_models} variants, {name}: {cpu_seconds(command, Path(folder)):.1f} s", flush=True)


if __name__ == "__main__":
    main()
