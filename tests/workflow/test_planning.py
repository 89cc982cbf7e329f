"""Planning a study: what is costly is done once, however many variants there are."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import command, snakemake, write_study

# Runs snakemake in this process and says how often the costly functions were called.
COUNTED = """
import importlib, json, sys
from functools import wraps

calls = {}

def count(place):
    module, _, name = place.rpartition(".")
    module = importlib.import_module(module)
    function = getattr(module, name)

    @wraps(function)
    def counted(*arguments, **options):
        calls[place] = calls.get(place, 0) + 1
        return function(*arguments, **options)

    setattr(module, name, counted)

for place in (
    "importlib.metadata.version",
    "stratalaw.models.shapes.shapes_of_weights",
    "stratalaw.cost.resources.resources_of_answers",
    "stratalaw.cost.resources.resources_of_checkpoint",
    "stratalaw.pipeline.jobs_of",
):
    count(place)
from snakemake.cli import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(calls))
"""


def plan(folder: Path, bits: list[int], *arguments: str) -> str:
    """What a dry run says, and in its last line how often each function was called."""
    folder.mkdir()
    write_study(folder, bits)
    start = [sys.executable, "-c", COUNTED]
    planned = subprocess.run(
        [*start, *command(folder, "-n", *arguments)[3:]], capture_output=True, text=True, cwd=folder, check=False
    )
    assert planned.returncode == 0, planned.stderr
    return planned.stdout


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> tuple[str, str]:
    """Plans of a study of one variant of each of two models, without a GPU, and of four, with GPUs."""
    folder = tmp_path_factory.mktemp("planned")
    return plan(folder / "one", [4]), plan(folder / "four", [2, 3, 4, 8], "--resources", "gpu=2")


def test_what_a_variant_does_not_change_is_worked_out_once(plans):
    for_one, for_four = (json.loads(said.splitlines()[-1]) for said in plans)
    # What a checkpoint asks for depends on the variant; it is worked out once for each, not for each resource.
    quantizations = [counted.pop("stratalaw.cost.resources.resources_of_checkpoint") for counted in (for_one, for_four)]
    assert quantizations == [2 * 1, 2 * 4]
    assert for_four == for_one
    assert for_one["stratalaw.cost.resources.resources_of_answers"] == 2
    assert for_one["importlib.metadata.version"] > 0


def test_only_long_quantizations_ask_for_several_gpus(tmp_path):
    write_study(tmp_path, [4])
    study = yaml.safe_load((tmp_path / "study.yaml").read_text())
    study["grids"][0]["calibration_size"] = [1, 1_000_000]
    study["calibration"]["tokens"] = 1_000_000
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    options = ["-n", "--resources", "gpu=8", "--set-resources", "checkpoints:gpu=1"]
    planned = snakemake(tmp_path, *options, config=["gpus_per_checkpoint=2", "jobs_per_gpu=3"])
    assert planned.returncode == 0, planned.stderr
    asked = {
        (Path(job["output"]).name, job["resources"].split("gpu=", 1)[1])
        for job in jobs_in(planned.stdout + planned.stderr)
        if job["rule"] == "checkpoints"
    }
    assert asked == {
        ("w4-g128-c1-s0", "1, tasks_per_gpu=1, nodes=1"),
        ("w4-g128-c1000000-s0", "6, tasks_per_gpu=0, nodes=1"),
    }


def jobs_in(said: str) -> list[dict[str, str]]:
    """The jobs that a dry run lists."""
    blocks = [block.splitlines() for block in said.split("\nrule ")[1:]]
    return [
        {"rule": name.rstrip(":"), **dict(line.strip().split(": ", 1) for line in lines if ": " in line)}
        for name, *lines in blocks
    ]


def priorities(said: str) -> dict[str, set[int]]:
    """By rule, those of its jobs."""
    found: dict[str, set[int]] = {}
    for job in re.split(r"^rule ", said, flags=re.MULTILINE)[1:]:
        priority = re.search(r"^    priority: (\d+)$", job, re.MULTILINE)
        found.setdefault(job.partition(":")[0], set()).add(int(priority[1]) if priority else 0)
    return found


def test_with_gpus_a_variant_is_finished_before_the_next_is_begun(plans):
    """It is scored meanwhile; without a GPU, jobs of one thread would leave cores idle."""
    without, with_gpus = map(priorities, plans)
    assert set().union(*without.values()) == {0}
    assert with_gpus["scores"] == {2} and with_gpus["answers"] == {1} and with_gpus["checkpoints"] == {0}
