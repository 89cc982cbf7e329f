"""``stratalaw next`` and ``stratalaw forecast`` read what a study has measured, and nothing else."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.jobs import sequel
from stratalaw.layout import Results
from stratalaw.models.folder import AUDIT, copy_model, manifest_seal
from stratalaw.seals import Seal, put_record, write_table
from stratalaw.study import Study, read_study
from stratalaw.study.variants import BASELINE_NAME, Quantization

ITEMS = 300
TASKS = {"memorization": "ladder_biographies", "reasoning": "ladder_paths"}
UNQUANTIZABLE = "w2-g128-c8-s0"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def lines_of(result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def study_file(tmp_path_factory) -> Path:
    content = {
        "name": "two",
        "models": [{"name": n, "source": str(Path("ladder/models", n).resolve()), "family": "x"} for n in ("q3", "q5")],
        "grids": [{"bits": [2, 3, 4], "group_size": [16, 128], "calibration_size": [8, 32]}],
        "calibration": {"corpus": "c.jsonl", "tokens": 256},
        "evaluation": {
            "strata": {name: [{"task": task, "chance": 0.2}] for name, task in TASKS.items()},
            "tasks_folder": "ladder/benchmarks",
        },
    }
    path = tmp_path_factory.mktemp("study") / "two.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def measure(study: Study, results: Results, names: list[tuple[str, str]]) -> None:
    """Write what the jobs of some variants would have written: items with margins that quantization eats."""
    for model, variant in names:
        if not results.model(model).exists():
            copy_model(Path("ladder/models", model), results.model(model))
        of_model = {"model": manifest_seal(results.model(model)).digest}
        if variant != BASELINE_NAME:
            folder = results.checkpoint(model, variant)
            folder.mkdir(parents=True)
            put_record(
                {"effective_bits": 4.2, "seconds": 1.0, "device": "cpu"},
                folder / AUDIT,
                Seal("checkpoint", {"variant": variant}, of_model),
            )
        for stratum, task in TASKS.items():
            about = {"model": model, "variant": variant, "stratum": stratum}
            random = np.random.default_rng([*model.encode(), *stratum.encode()])
            margin, loss = random.normal(1.5, 1.5, ITEMS), 0.0
            if variant != BASELINE_NAME:
                q = Quantization.from_name(variant)
                loss = 0.8 * np.exp(-1.2 * (q.bits - 3)) * (q.group_size / 64) ** 0.3
            left = margin - loss * (1 + 0.5 * random.normal(size=ITEMS))
            answers = pd.DataFrame({"log_likelihood": np.column_stack([left, np.zeros(ITEMS)]).ravel()})
            scores = pd.DataFrame({"task": task, "document": range(ITEMS), "score": (left > 0).astype(float)})
            if variant == UNQUANTIZABLE:
                scores = answers = pd.DataFrame()
            requests = pd.DataFrame(
                {
                    "task": task,
                    "document": np.repeat(range(ITEMS), 2),
                    "choice": [0, 1] * ITEMS,
                    "arguments": [json.dumps([f"fact {i} :", "yes"]) for i in np.repeat(range(ITEMS), 2)],
                }
            )
            for path, table, seal in (
                (results.requests(model, stratum), requests, Seal("requests", {"stratum": stratum}, {})),
                (results.answers(model, variant, stratum), answers, Seal("answers", about, {})),
                (results.scores(model, variant, stratum), scores, Seal("scores", about, {})),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_table(table, path, seal)


@pytest.fixture
def results(tmp_path) -> Results:
    return Results(tmp_path / "results")


def test_targets_alone_are_printed_and_a_restart_goes_on_where_it_was(study_file, results):
    study = read_study(study_file)
    asked: list[tuple[str, str]] = []
    for number in range(20):
        result = run("next", study_file, "--until", "±4", "--batch", 6, "--results", results.root)
        targets = lines_of(result)
        if not targets:
            break
        pairs = [Path(target).parts[-3:-1] for target in targets]
        assert targets == [str(results.scores(*pair, "memorization")) for pair in pairs]
        assert not {*pairs} & {*asked}
        if number == 0:
            assert {*pairs} >= {("q3", BASELINE_NAME), ("q5", BASELINE_NAME)}
        measure(study, results, pairs)
        asked += pairs
    assert "The goal is reached." in result.stderr
    assert len(asked) < len(study.variant_names())


def test_a_variant_that_cannot_be_quantized_is_passed_over(study_file, results):
    study = read_study(study_file)
    names = [name for name in study.variant_names() if name[0] == "q3"]
    measure(study, results, [*names, ("q5", BASELINE_NAME)])
    targets = lines_of(run("next", study_file, "--until", "±0.01", "--for", "q3", "--results", results.root))
    assert targets == []


def test_going_on_by_itself_runs_snakemake_until_the_goal(study_file, results, monkeypatch):
    study, commands = read_study(study_file), []

    def run_of(command, **options):
        if "-c" in command or "snakemake" not in command:
            return subprocess.CompletedProcess(command, 0, "", "")
        commands.append(command)
        pairs = [Path(word).parts[-3:-1] for word in command if word.endswith(".parquet")]
        measure(study, results, pairs)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(sequel.subprocess, "run", run_of)
    wish = ["--for", "memorization of w3", "--until", "±5"]
    result = run("next", study_file, *wish, "--run", "--results", results.root, "--cores", 2)
    assert result.exit_code == 0, result.output
    assert commands and all(command[-4:] == ["--cores", "2", "--configfile", str(study_file)] for command in commands)
    assert result.stdout == "" and "The goal is reached." in result.stderr


def test_snakemakes_failure_ends_the_loop(study_file, results, monkeypatch):
    monkeypatch.setattr(sequel.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 3))
    assert run("next", study_file, "--until", "±5", "--run", "--results", results.root).exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a budget (--gpu-hours), a precision to reach (--until 2), or both"),
        (["--until", "±2", "--cores", "2"], "--cores: arguments of snakemake go with --run"),
        (["--until", "95%"], "--until '95%': for 'every variant' it is half a width such as ±2 (points)"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(study_file, arguments, message):
    result = run("next", study_file, *arguments)
    assert result.exit_code == 1 and result.stderr.strip() == message


@pytest.fixture(scope="module")
def some_measured(study_file, tmp_path_factory) -> Results:
    results = Results(tmp_path_factory.mktemp("some") / "results")
    study = read_study(study_file)
    measure(study, results, [name for name in study.variant_names() if name[1] != "w3-g16-c32-s0"])
    return results


@pytest.mark.parametrize("variant", ["w3-g16-c32-s0", "w3-g64-c32-s0"])  # of the study, and of none
def test_items_of_a_variant_that_was_not_run_are_forecast(study_file, some_measured, tmp_path, variant):
    out = tmp_path / "items.csv"
    arguments = ["forecast", study_file, f"q5/{variant}", "--out", out, "--results", some_measured.root]
    shown = "\n".join(lines_of(run(*arguments)))
    assert f"q5/{variant}, predicted" in shown and "fact " in shown
    items = pd.read_csv(out)
    assert len(items) == 2 * ITEMS and items.probability.between(0, 1).all()
    right = items[items.original == 1]
    assert right.probability.is_monotonic_increasing
    assert set(items.asked) == {f"fact {number} :" for number in range(ITEMS)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("q9/w3-g16-c32-s0", "q9 is not one of the study's models (q3, q5)"),
        ("q5/w3", "'w3' is not the name of a quantized variant such as w3-g128-c32-s0; write MODEL/VARIANT"),
        ("q5/w3-g16-c8-s0", "q5/w3-g16-c8-s0 was measured: its items are in "),
    ],
)
def test_what_cannot_be_forecast_is_named(study_file, some_measured, name, message):
    result = run("forecast", study_file, name, "--results", some_measured.root)
    assert result.exit_code == 1 and message in result.stderr and result.stderr.count("\n") == 1


def test_before_the_original_is_measured_nothing_is_forecast(study_file, results):
    result = run("forecast", study_file, "q5/w3-g16-c8-s0", "--results", results.root)
    assert result.exit_code == 1 and "measure the original first" in result.stderr
