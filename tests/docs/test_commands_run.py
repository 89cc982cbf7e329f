"""The commands of stratalaw and make that the documentation shows do what it says there, in a folder that has what
they name.

Each is taken from the pages and run, with a Hub on loopback; of make only the plan is made: its targets install, test
or train. What cannot be run is listed with the reason. Those of snakemake are read in ``test_command_lines.py``.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.jobs import redo
from stratalaw.published.library import read_library
from stratalaw.study import read_study
from tests.docs.pages import command_lines
from tests.docs.test_command_lines import words_of
from tests.hub_server import HubRepository, HubServer

ROOT = Path(__file__).parents[2]
ADOPTED = "needs a finished study: tests/workflow/test_adoption.py"
A_MINUTE = "a minute of two cores: tests/laws/test_published_study.py fits this table"
GOES_ON = "runs the demo: tests/jobs/test_sequel.py"
MEASURED = "needs a measured study: tests/jobs/test_sequel.py"
ALLOCATED = "needs a measured study: tests/workflow/test_allocation.py"
MEASURE_BITS = (
    "stratalaw sensitivities config/demo.yaml --model q3 --base w3-g128-c32-s0 --other w4-g128-c32-s0 "
    "--other w2-g128-c32-s0"
)
ALLOCATE_BITS = "stratalaw allocate config/demo.yaml --model q3 --memory 3.5bits --keep memorization --out keep.yaml"
REDO = "stratalaw redo config/demo.yaml q5/w3-g128-c32-s0 --from answers --profile profiles/demo"
NOT_RUN = {
    "stratalaw fit docs/studies/first-ladder/observations.csv --holdout r6 --form exponential --form paper": A_MINUTE,
    "stratalaw fit docs/studies/first-ladder/observations.csv --holdout r6 --out results/laws": A_MINUTE,
    "stratalaw power docs/studies/first-ladder/observations.csv --holdout r6": A_MINUTE,
    "stratalaw fit observations.csv": "as with --out, which is run",
    "stratalaw power results/studies/demo/observations.csv": "as of observations.csv, which is run",
    "stratalaw resume --profile profiles/slurm": "needs Slurm: tests/cluster/test_faults.py runs it",
    REDO: "as with -n, which is run",
    "stratalaw adopt config/demo.yaml --profile profiles/demo": ADOPTED,
    "stratalaw adopt study.yaml --profile profiles/demo --quiet": ADOPTED,
    "stratalaw next config/demo.yaml --until 2 --run --profile profiles/demo": GOES_ON,
    "stratalaw forecast config/demo.yaml q5/w3-g64-c32-s0 --out items.csv": MEASURED,
    MEASURE_BITS: ALLOCATED,
    ALLOCATE_BITS: ALLOCATED,
    "stratalaw publish config/ladder.yaml docs/studies/ladder": "needs the whole ladder, an hour of two cores",
}
FEWER = {"fit": ["--resamples", "100", "--form", "paper"]}
PLACEHOLDER = re.compile(r"(^|/)[A-Z]+(\.\w+)?(/|$)")  # MODEL, STUDY.yaml
COMMIT = "c0ffee" + "0" * 34


def examples() -> Iterator[str]:
    for path in sorted(Path("docs/examples").glob("*.txt")):
        yield path.read_text().partition("\n")[0].removeprefix("$ ")


def shown() -> Iterator[str]:
    """The whole commands of the documentation; names and patterns of commands are none."""
    lines = [*(line for _, line in command_lines()), *examples()]
    for line in dict.fromkeys(shlex.join(words_of(line)) for line in lines):
        words = line.split()
        is_whole = len(words) > (2 if words[0] == "stratalaw" else 1)
        if is_whole and not any(PLACEHOLDER.search(word) for word in words):
            yield line


SHOWN = list(shown())


def run_of(command: str) -> list[str]:
    return [line for line in SHOWN if line.split()[0] == command and line not in NOT_RUN]


class AnyRepository(dict):
    """Repositories of every name, each with the files that any study asks for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def get(self, name: str, default: object = None) -> HubRepository:
        return HubRepository(COMMIT, self.files)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Iterator[Path]:
    """The working folder: a fresh checkout, and beside it what a user has by then. Its Hub has every repository."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("Snakefile", "workflow", "profiles", "ladder", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("config", "docs/studies/ladder", "docs/studies/first-ladder"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("figures"))
    ladder = yaml.safe_load((folder / "config" / "ladder.yaml").read_text())
    ladder["grids"] = [{"bits": [3, 4], "group_size": [32, 128], "calibration_size": [8, 128]}]
    (folder / "config" / "ladder.yaml").write_text(yaml.safe_dump(ladder))
    demo = yaml.safe_load((folder / "config" / "demo.yaml").read_text())
    demo["name"] = "one"
    demo["models"] = [model for model in demo["models"] if model["name"] == "q6"]  # of which nothing was made
    demo["grids"] = [grid for grid in demo["grids"] if "models" not in grid]
    (folder / "study.yaml").write_text(yaml.safe_dump(demo))
    shutil.copyfile(folder / "docs/studies/ladder/seconds.csv", folder / "seconds.csv")
    whole = pd.read_csv(folder / "docs/studies/first-ladder/observations.csv")
    some = whole.bits.isin([3, 4]) & whole.group_size.isin([32, 128]) & whole.calibration_size.isin([8, 128])
    fitted = whole.model.isin(["r1", "r3", "r5"]) & whole.stratum.isin(["memorization", "reasoning"])
    whole[((whole.bits == 16) | some) & fitted].to_csv(folder / "observations.csv", index=False)
    (folder / "portfolio.yaml").write_text(
        re.search(r"```yaml\n(memory:.*?)```", (ROOT / "docs/how-to/planning.md").read_text(), re.DOTALL)[1]
    )
    rows = read_library()
    own = rows[(rows.model == "Qwen/Qwen3-8B") & (rows.benchmark == "mmlu") & rows.method.isin(["bf16", "AutoRound"])]
    own = own.drop_duplicates("bits").assign(model="me/m-8B", family="Mine", source_id="mine")
    own.to_csv(folder / "own.csv", index=False)
    for variant in ("q3/bf16", "q3/w4-g128-c32-s0", "q5/bf16", "q5/w8-g128-c32-s0", "q5/w4-g128-c32-s0"):
        write_scores(folder / "results" / "scores" / variant)
    for name in ("full", "quantized"):
        write_samples(folder / "lm_eval_results" / name)
    studies = [read_study(path) for path in sorted((folder / "config").glob("*.yaml"))]
    files = {study.calibration.corpus: b"{}\n" for study in studies if study.calibration.dataset}
    files["config.json"] = (ROOT / "ladder/models/q3/config.json").read_bytes()
    hub = HubServer()
    hub.repositories = AnyRepository(files)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr(redo, "snakemake_command", dry(redo.snakemake_command))
        yield folder
    hub.close()


def write_scores(folder: Path) -> None:
    folder.mkdir(parents=True)
    pd.DataFrame({"task": "t", "document": range(4), "score": [1, 0, 1, 1]}).to_parquet(folder / "reasoning.parquet")


def write_samples(folder: Path) -> None:
    folder.mkdir(parents=True)
    hashes = {"doc_hash": "a", "prompt_hash": "b", "target_hash": "c"}
    sample = {
        "doc_id": 0,
        "doc": {},
        "target": "1",
        "filter": "none",
        "metrics": ["acc_norm"],
        "acc_norm": 1.0,
        **hashes,
    }
    (folder / "samples_t_2026-01-02T03-04-05.678901.jsonl").write_text(json.dumps(sample) + "\n")


def dry(command_of):
    return lambda arguments: [*command_of([word for word in arguments if word != "-n"]), "-n"]


@pytest.fixture(scope="module")
def of_stratalaw(desk) -> dict[str, tuple[int, str]]:
    """Exit status and output of each command of stratalaw; studies are written and pinned first, and laws fitted."""

    def order(line: str) -> int:
        name = line.split()[1]
        return ["new", "pin", "fit", name].index(name)

    ran = {}
    for line in sorted(run_of("stratalaw"), key=order):
        words = line.split()[1:]
        fewer = [] if "--library" in words else FEWER.get(words[0], [])
        result = CliRunner().invoke(app, [*words, *fewer], env={"COLUMNS": "200"})
        ran[line] = result.exit_code, result.output + repr(result.exception or "")
        if line == "stratalaw fit observations.csv --out laws":
            for place in ("laws.json", "pilot.json", "results/studies/demo/laws.json", "results/laws/laws.json"):
                (desk / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(desk / "laws" / "laws.json", desk / place)
    return ran


@pytest.mark.parametrize("line", run_of("stratalaw"))
def test_commands_of_stratalaw_run(of_stratalaw, line):
    status, output = of_stratalaw[line]
    # This machine may not have the disk that a study needs, and the GPU that one command names is too small for some.
    missing = ("are free", "and a GPU has 48 GB") if "--gpu-memory 48" in line else ("are free",)
    problems = [text for text in output.splitlines() if text.startswith("Problem: ")]
    named = [text for text in problems if any(what in text for what in missing)]
    assert status == 0 or (problems and named == problems), output


@pytest.mark.parametrize("line", run_of("make"))
def test_commands_of_make_can_be_planned(line):
    planned = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr


def test_what_is_not_run_is_shown():
    assert NOT_RUN.keys() <= {*SHOWN}
