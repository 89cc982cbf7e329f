"""The workflow, run for real: from a study to its report."""

import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import yaml

from stratalaw.layout import Results
from stratalaw.observations.coverage import coverage
from stratalaw.observations.table import COLUMNS
from stratalaw.report.publication import publish
from stratalaw.study import read_study
from tests.workflow.conftest import ITEMS, OBSERVATIONS, RERUN_TRIGGERS, ROOT, snakemake
from tests.workflow.warm_snakemake import run_snakemake


def test_one_variant_by_its_path_runs_only_what_it_needs(one_variant):
    assert one_variant == ["checkpoints/q1/w4-g128-c4-s0"]


def test_a_study_gives_observations_and_laws(folder, whole):
    table = pd.read_csv(folder / OBSERVATIONS)
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 2 * 3 * 10
    assert set(table.n_items) == {ITEMS}
    assert not table.duplicated(["model", "variant", "benchmark"]).any()
    baselines = table[table.variant == "bf16"]
    assert (baselines.paired_difference == 0).all()
    laws = json.loads((folder / "results" / "studies" / "demo" / "laws.json").read_text())["laws"]
    assert [law["stratum"] for law in laws] == ["memorization", "application", "reasoning", "general"]


def test_a_run_without_a_terminal_says_how_far_it_is_and_at_its_end_what_to_do_next(folder, whole):
    said = (folder / "run.log").read_text()
    lines = [line.partition("] ")[2] for line in said.splitlines() if " jobs done, " in line]
    assert [line.partition(" jobs done, ")[0] for line in lines] == [
        f"{n + 1} of {len(lines)}" for n in range(len(lines))
    ]
    assert len(lines) > 20 and all(" elapsed, about " in line and " left: " in line for line in lines[:-1])
    laws = "results/studies/demo/laws.json"
    assert f"To see what came out: stratalaw show {laws}" in said
    assert re.search(r"^As one page: snakemake .* --report results/studies/demo/report.html$", said, re.MULTILINE)


def test_nothing_runs_twice(folder, whole):
    again = snakemake(folder, "-n")
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout + again.stderr


def test_observations_lost_and_made_again_are_the_same(folder, whole, tmp_path):
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    table = tmp_path / OBSERVATIONS
    for path in (table, *(tmp_path / "results" / "scores" / "q1" / "w4-g128-c4-s0").iterdir()):
        path.unlink()
    again = snakemake(tmp_path, str(OBSERVATIONS))
    assert again.returncode == 0, again.stderr
    assert table.read_bytes() == (folder / OBSERVATIONS).read_bytes()


def test_a_comment_in_a_script_makes_nothing_anew(folder, whole, tmp_path):
    for profile in (ROOT / "profiles").glob("*/config.yaml"):
        assert yaml.safe_load(profile.read_text())["rerun-triggers"] == RERUN_TRIGGERS
    shutil.copy(ROOT / "Snakefile", tmp_path)
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    script = tmp_path / "workflow" / "scripts" / "quantize_model.py"
    script.write_text("# A comment.\n" + script.read_text())
    dry_run = ["--snakefile", str(tmp_path / "Snakefile"), "-n", "--rerun-triggers", *RERUN_TRIGGERS]
    result = run_snakemake([*dry_run, "--configfile", "study.yaml"], folder)
    assert "Nothing to be done" in result.stdout + result.stderr


def test_the_report_opens_with_what_was_run_and_what_came_out(folder, whole):
    made = snakemake(folder, "--report", "report.html")
    assert made.returncode == 0, made.stderr
    page = (folder / "report.html").read_text()
    assert "4 GPTQ variants of 2 models (q1, q4" in page
    for text in ("Group and calibration size", "Predicted against observed"):
        assert text.lower() in page.lower()
    for name in ("accuracy", "effects", "predicted", "exponents"):
        assert name in page
    assert "System Message" not in page  # docutils' way of reporting an error


def test_a_cold_process_gives_the_same_weights_as_the_warm_worker(folder, whole, tmp_path):
    variant = "q1/w4-g128-c4-s0"
    audit = json.loads((folder / "results" / "checkpoints" / variant / "audit.json").read_text())
    call = {
        "model": str(folder / "results" / "models" / "q1"),
        "calibration": str(folder / "results" / "calibration" / "q1" / "s0.parquet"),
        "options": audit["options"],
        "checkpoint": str(tmp_path / "w4-g128-c4-s0"),
    }
    code = f"from stratalaw.jobs.stages import quantize_model; quantize_model(**{call!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    cold = json.loads((tmp_path / "w4-g128-c4-s0" / "audit.json").read_text())
    # gptqmodel's log holds how long each matrix took.
    assert cold["sha256"] | {"quant_log.csv": ""} == audit["sha256"] | {"quant_log.csv": ""}


def test_a_bad_study_stops_with_one_line(tmp_path):
    (tmp_path / "study.yaml").write_text("name: bad\ngrid: []\n")
    result = snakemake(tmp_path, "-n")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("study.yaml: grid: neither a key of a study (name, models, grids,")
    assert "Traceback" not in result.stderr


def test_a_variant_of_the_ladder_study_is_planned_by_itself():
    """That there are 782 of them is tested with the study; to plan them all takes half a minute."""
    scores = "results/scores/q5/w3-g128-c32-s0/reasoning.json"
    options = ["--quiet", "rules", "--configfile", "config/ladder.yaml", "--forceall"]
    result = run_snakemake([scores, "-n", *options], ROOT)
    assert result.returncode == 0, result.stderr
    counts = dict(
        line.rsplit(maxsplit=1) for line in result.stdout.splitlines() if line[:1].isalpha() and line[-1].isdigit()
    )
    assert {counts[rule] for rule in ("models", "calibration", "checkpoints", "answers", "scores")} == {"1"}


def test_what_is_published_lacks_nothing(folder, whole, tmp_path):
    study = read_study(folder / "study.yaml")
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "README.md").write_text("kept")
    publish(study, Results(folder / "results"), tmp_path / "published")
    observed = pd.read_csv(tmp_path / "published" / "observations.csv")
    pd.testing.assert_frame_equal(observed, pd.read_csv(folder / OBSERVATIONS), rtol=1e-5)
    coverage = pd.read_csv(tmp_path / "published" / "coverage.csv")
    assert (coverage.named == coverage.observed).all() and coverage.named.sum() == 3 * len(study.variants())
    seconds = pd.read_csv(tmp_path / "published" / "seconds.csv")
    quantized = seconds.variant != "bf16"
    assert (seconds.checkpoints[quantized] > 0).all() and (seconds.checkpoints[~quantized] == 0).all()
    assert (seconds[["answers", "scores"]] > 0).all(axis=None)
    assert (tmp_path / "published" / "README.md").read_text() == "kept"
    assert (tmp_path / "published" / "figures" / "accuracy.svg").exists()


def test_a_variant_that_was_not_observed_is_named(folder, whole):
    study = read_study(folder / "study.yaml")
    observed = pd.read_csv(folder / OBSERVATIONS)
    lost = (observed.model == "q1") & (observed.variant == "w4-g128-c4-s0") & (observed.benchmark == "ladder_paths")
    table = coverage(study, observed[~lost]).set_index(["model", "stratum"])
    assert table.missing["q1", "reasoning"] == "w4-g128-c4-s0"
    assert table.observed["q1", "reasoning"] == table.named["q1", "reasoning"] - 1
    assert table.missing["q1", "memorization"] == ""
