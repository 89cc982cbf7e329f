"""Every study ends with a report, down to one model and one variant, whatever laws its rows allow."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.damage.table import ALL, COLUMNS, GENERAL
from stratalaw.laws.analysis import Analysis
from stratalaw.layout import FIGURES, LAWS, Results
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.study.variants import is_mixed
from tests.workflow.warm_snakemake import run_snakemake

ROOT = Path(__file__).parents[2]
ITEMS, FEWER = 20, 8
WITH_MIXED = "one-benchmark"  # a study with a variant of mixed bits besides
ALLOCATION = {"bits": 4, "group_size": 128, "matrices": {"model.layers.0.mlp.down_proj": {"bits": 8}}}
SHORT = "ladder_short"  # a benchmark of fewer items
MEMORIZATION = ["ladder_biographies", "ladder_questions"]
APPLICATION = ["ladder_inheritance", "ladder_conversion", "ladder_numeracy"]
REASONING = ["ladder_arithmetic", "ladder_paths"]
ALL_STRATA = {"memorization": MEMORIZATION, "application": APPLICATION, "reasoning": REASONING}
# By name, the bits and the strata of a study of one model: one of everything, and several of each thing.
STUDIES: dict[str, tuple[list[int], dict[str, list[str]]]] = {
    "two-variants": ([4, 8], ALL_STRATA),
    "one-benchmark": ([4], {"reasoning": ["ladder_paths"]}),
    "unequal-strata": ([4], {"memorization": [*MEMORIZATION, SHORT], "reasoning": ["ladder_paths"]}),
}


@dataclass(frozen=True)
class Made:
    """A study that has been run in ``folder``, with its report."""

    name: str
    folder: Path
    report: str

    def path(self, file: str) -> Path:
        return Results(self.folder / "results").of_study(self.name, file)

    def damage(self) -> pd.DataFrame:
        return pd.read_csv(self.path("damage.csv"))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Callable[[str], Made]:
    """Runs a study once, in a folder that all of them share."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(ROOT / "ladder" / "benchmarks", folder / "benchmarks")
    add_short_benchmark(folder / "benchmarks")
    made: dict[str, Made] = {}

    def run_once(name: str) -> Made:
        if name not in made:
            write_study(folder, name)
            snakemake(folder, "--cores", "2", "--rerun-triggers", "mtime", "params", "input")
            snakemake(folder, "--report", f"{name}.html")
            made[name] = Made(name, folder, (folder / f"{name}.html").read_text())
        return made[name]

    return run_once


def add_short_benchmark(folder: Path) -> None:
    """The first items of another benchmark, as one of their own."""
    with (folder / "questions.jsonl").open() as lines:
        (folder / "short.jsonl").write_text("".join(islice(lines, FEWER)))
    text = (folder / "questions.yaml").read_text()
    (folder / "short.yaml").write_text(
        text.replace("ladder_questions", SHORT).replace("benchmark: questions", "benchmark: short")
    )


def write_study(folder: Path, name: str) -> None:
    bits, strata = STUDIES[name]
    study = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    study["name"] = name
    study["models"] = [{"name": "q1", "source": str(ROOT / "ladder" / "models" / "q1"), "family": "ladder"}]
    study["grids"] = [{"bits": bits, "group_size": [128], "calibration_size": [4]}]
    study["calibration"]["corpus"] = str(ROOT / "ladder" / "calibration.jsonl")
    benchmarks = {one["task"]: one for stratum in study["evaluation"]["strata"].values() for one in stratum}
    benchmarks[SHORT] = benchmarks["ladder_questions"] | {"task": SHORT}
    study["evaluation"] = {
        "tasks_folder": str(folder / "benchmarks"),
        "items": ITEMS,
        "strata": {name: [benchmarks[task] for task in tasks] for name, tasks in strata.items()},
    }
    if name == WITH_MIXED:
        (folder / "allocation.yaml").write_text(yaml.safe_dump(ALLOCATION))
        study["models"][0]["mixed"] = [{"allocation": "allocation.yaml", "calibration_size": [4]}]
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def snakemake(folder: Path, *arguments: str) -> None:
    start = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    options = ["--configfile", str(folder / "study.yaml"), "--config", "warm_worker=true"]
    done = run_snakemake([*start, *arguments, *options], folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_ends_with_a_report(run, name):
    made = run(name)
    bits, strata = STUDIES[name]
    assert "System Message" not in made.report  # docutils' way of reporting an error
    assert "all variants, and what each stratum kept" in made.report
    summary = made.path("summary.rst").read_text()
    first, second, *_ = summary.split("\n\n")
    assert first.startswith("**Findings.** Variants that lose more than the noise") and second.startswith(
        "**What was lost**"
    )
    damage = made.damage()
    assert list(damage.columns) == list(COLUMNS)
    means = [(GENERAL, ALL)] if len(strata) > 1 else []
    expected = [*means, *((s, task) for s, tasks in strata.items() for task in (ALL, *tasks))]
    for width in bits:
        rows = damage[damage.variant == f"w{width}-g128-c4-s0"]
        assert list(zip(rows.stratum, rows.benchmark, strict=True)) == expected
        assert f"q1 w{width}-g128-c4-s0" in summary
    assert (damage.bytes < damage.bytes_original).all()


@pytest.mark.parametrize("name", STUDIES)
def test_without_enough_rows_for_a_law_everything_says_why(run, name):
    made = run(name)
    analysis = Analysis.read(made.path("laws.json"))
    assert analysis.laws == []
    why = analysis.why_no_laws
    assert why.startswith("no law was fitted: ") and "usable" in why
    assert f"*Note:* {why}." in made.path("summary.rst").read_text()
    shown = CliRunner().invoke(app, ["show", str(made.path("laws.json"))])
    assert shown.exit_code == 0 and why in " ".join(shown.output.split())
    assert why in made.path("verdicts.csv").read_text() and why[1:] in made.path("explorer.html").read_text()
    for figure, (chapter, _) in FIGURES.items():
        drawing = made.path(f"figures/{figure}.svg").read_text()
        assert made.path(f"figures/{figure}.png").exists()
        assert (f"<!-- {why[0].upper()}{why[1:60]}" in drawing) == (chapter == LAWS)
    arguments = ["--laws", str(made.path("laws.json")), "--n-params", "1e6", "--bits", "4"]
    refused = CliRunner().invoke(app, ["predict", *arguments])
    assert refused.exit_code == 1 and why in " ".join(refused.output.split()) and "Traceback" not in refused.output


def test_a_difference_is_that_of_the_observations(run):
    made = run("two-variants")
    damage = made.damage()
    damage = damage[damage.benchmark != ALL].set_index(["variant", "benchmark"])
    observations = pd.read_csv(made.path("observations.csv"))
    for row in observations[observations.variant != "bf16"].itertuples():
        own = damage.loc[(row.variant, row.benchmark)]
        assert (own.accuracy, own.difference) == pytest.approx((row.accuracy, row.paired_difference), rel=1e-5)
        assert own.n_items == row.n_items == ITEMS


def test_benchmarks_of_unequal_size_count_alike_in_their_stratum(run):
    rows = run("unequal-strata").damage().set_index(["stratum", "benchmark"]).sort_index()
    assert rows.n_items["memorization", SHORT] == FEWER
    assert rows.n_items["memorization", ALL] == 2 * ITEMS + FEWER
    of_stratum = rows.loc["memorization"].drop(ALL)
    assert rows.accuracy["memorization", ALL] == pytest.approx(of_stratum.accuracy.mean(), rel=1e-5)
    strata = rows.xs(ALL, level="benchmark").drop(GENERAL)
    assert rows.difference[GENERAL, ALL] == pytest.approx(np.mean(strata.difference), abs=1e-5)


def test_two_folders_of_scores_are_compared_as_in_the_study(run, tmp_path):
    made = run("unequal-strata")
    (tmp_path / "models").symlink_to(made.folder / "results" / "models")
    folders = []
    for name in ("bf16", "w4-g128-c4-s0"):
        folders.append(tmp_path / "scores" / "q1" / name)
        folders[-1].mkdir(parents=True)
        for stratum in STUDIES[made.name][1]:  # other studies have left scores of other strata
            shutil.copy(Results(made.folder / "results").scores("q1", name, stratum), folders[-1])
    result = CliRunner().invoke(app, ["compare", *map(str, folders), "--out", str(tmp_path / "damage.csv")])
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "damage.csv"), made.damage())


def test_a_mixed_variant_stands_in_every_table_beside_the_uniform_one(run, monkeypatch):
    made = run(WITH_MIXED)
    variants = pd.read_csv(made.path("observations.csv")).set_index("variant")
    original, uniform, mixed = variants.index
    assert (original, uniform) == ("bf16", "w4-g128-c4-s0") and is_mixed(mixed)
    assert variants.method[[uniform, mixed]].tolist() == ["GPTQ", "GPTQ, mixed"]
    assert variants.bits[mixed] == 4 and variants.calibration_size[mixed] == 4
    shapes = shapes_of_weights(Results(made.folder / "results").model("q1"))
    (wide,) = (m.in_features * m.out_features for m in shapes.matrices if m.name in ALLOCATION["matrices"])
    # Each of its weights has 4 bits more, and each zero point of its groups.
    more = 4 * (1 + 1 / 128) * wide / shapes.n_quantized
    assert variants.effective_bits[mixed] - variants.effective_bits[uniform] == pytest.approx(more)
    damage = made.damage().drop_duplicates("variant").set_index("variant")
    assert damage.bytes[mixed] - damage.bytes[uniform] == wide * 4 * (1 + 1 / 128) / 8
    assert f"q1 {mixed}" in made.path("summary.rst").read_text()
    analysis = Analysis.read(made.path("laws.json"))
    assert f"left out of the laws: q1/{mixed} (GPTQ, mixed)" in " ".join(analysis.notes)
    known = analysis.variants.set_index("variant")
    assert list(known.index) == [original, uniform, mixed] and set(known.kind) == {"measured"}
    assert known.accuracy[mixed] == pytest.approx(variants.accuracy[mixed])
    write_study(made.folder, WITH_MIXED)  # other tests leave other studies in the file
    monkeypatch.chdir(made.folder)
    verified = CliRunner().invoke(app, ["verify", "study.yaml"])
    assert verified.exit_code == 0, verified.output
