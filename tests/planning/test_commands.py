"""The commands predict, plan and select, as a user types them."""

from dataclasses import replace

import pandas as pd
import pytest
import yaml
from transformers import Qwen3Config
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.study import read_study

SIZES = {"small": (256, 512, 4), "large": (512, 1024, 8)}  # hidden size, intermediate size, layers


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    """A study of two models of which there is only a configuration."""
    folder = tmp_path_factory.mktemp("study")
    for name, (hidden, intermediate, layers) in SIZES.items():
        config = Qwen3Config(
            vocab_size=1000,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
        )
        config.save_pretrained(folder / name)
    study = {
        "name": "two",
        "models": [{"name": name, "source": str(folder / name), "family": "qwen3"} for name in SIZES],
        "grids": [{"bits": [3, 4], "group_size": [32, 128], "calibration_size": [8, 128]}],
        "calibration": {"corpus": "c.jsonl", "tokens": 256},
        "evaluation": {"strata": {"reasoning": [{"task": "arc_easy", "chance": 0.25}]}},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_predict_shows_every_stratum_and_what_lies_outside(laws_file):
    status, shown = run("predict", "--laws", laws_file, "--n-params", "32e9", "--bits", 3, "--group-size", 64)
    assert status == 0
    for stratum in ("memorization", "application", "reasoning", "general"):
        assert stratum in shown
    assert "n_params" in shown and "w3-g64-c128-s0" in shown


def test_plan_prefers_the_best_that_fits(study_file, laws_file):
    status, shown = run("plan", study_file, "--laws", laws_file, "--memory", "1GB", "--context", 128)
    assert status == 0 and "large w4-g32-c128-s0" in shown and "the most accurate of 16" in shown
    status, shown = run("plan", study_file, "--laws", laws_file, "--memory", "3MB", "--context", 128)
    assert status == 0 and "small" in shown and "of 3 MB" in shown


def test_plan_without_memory_is_the_smallest_that_meets_the_floors(study_file, laws_file):
    status, shown = run("plan", study_file, "--laws", laws_file, "--floor", "reasoning=0.26", "--context", 128)
    assert status == 0 and "small w3-g128" in shown


def test_risk_lowers_what_is_planned_with(study_file, laws_file):
    def value(*arguments) -> float:
        status, shown = run("plan", study_file, "--laws", laws_file, "--memory", "1GB", *arguments)
        assert status == 0
        return float(shown.split("shares and weights ")[1][:5])

    assert value("--risk", 0.05) < value("--risk", 0.3) < value()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--floor", "reasoning=0.99", "--memory", "1GB"], "no variant reaches reasoning 0.99 at any size"),
        (["--memory", "10kB"], "no variant fits 10 kB"),
        (["--floor", "reasoning"], "'reasoning' is not a stratum and a number such as reasoning=0.6"),
        (["--floor", "logic=0.5"], "floors.logic is not one of memorization, application, reasoning"),
        (["--memory", "much"], "memory: much: not an amount such as 12GB"),
        (
            ["--floor", "reasoning=60"],
            "reasoning=60 is not an accuracy, which lies between 0 and 1; for 60 % write rea",
        ),
        ([], "give --memory, such as 8GB, for the most accurate variant that fits, --floor, such as reasoning=0.6"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(study_file, laws_file, arguments, message):
    status, shown = run("plan", study_file, "--laws", laws_file, *arguments)
    assert status == 1 and message in shown and "Traceback" not in shown


def test_a_model_of_the_hub_whose_shapes_are_shipped_needs_no_network(laws_file):
    status, shown = run("plan", "config/smollm2.yaml", "--laws", laws_file, "--memory", "200MB", "--context", 256)
    assert status == 0 and "smollm2" in shown.lower() and "predicted, not measured" in shown


def test_a_portfolio_shares_memory(study_file, laws_file, tmp_path):
    portfolio = {
        "memory": "20MB",
        "context": 128,
        "most_variants": 2,
        "workloads": [
            {"name": "facts", "share": 3, "weights": {"memorization": 1}},
            {"name": "logic", "share": 1, "weights": {"reasoning": 1}, "floors": {"reasoning": 0.3}},
        ],
    }
    path = tmp_path / "portfolio.yaml"
    path.write_text(yaml.safe_dump(portfolio))
    status, shown = run("plan", study_file, "--laws", laws_file, "--portfolio", path)
    assert status == 0 and "facts" in shown and "logic" in shown and "of 20 MB" in shown
    path.write_text(yaml.safe_dump(portfolio | {"memery": "1GB"}))
    status, shown = run("plan", study_file, "--laws", laws_file, "--portfolio", path)
    assert status == 1 and "memery: unknown key; allowed here: workloads, memory" in shown
    path.write_text(yaml.safe_dump({"workloads": portfolio["workloads"][:1]}))
    status, shown = run("plan", study_file, "--laws", laws_file, "--portfolio", path)
    assert status == 1 and "neither a memory limit nor a floor is given" in shown


def test_select_stays_within_the_budget(study_file, laws_file, tmp_path):
    variants = read_study(study_file).variants().dropna(subset="bits")
    seconds = variants[["model", "variant"]].assign(
        seconds=100.0, n_params=variants.model.map({"small": 2e9, "large": 8e9})
    )
    seconds.to_csv(tmp_path / "seconds.csv", index=False)
    arguments = ["select", study_file, "--laws", laws_file, "--seconds", tmp_path / "seconds.csv"]
    status, shown = run(*arguments, "--gpu-hours", 1000 / 3600, "--out", tmp_path / "chosen.csv")
    assert status == 0 and "10 of 16 variants" in shown
    assert len(pd.read_csv(tmp_path / "chosen.csv")) == 10
    status, shown = run(*arguments, "--gpu-hours", 0.01)
    assert status == 1 and "does not buy 5 variants" in shown
    seconds.iloc[1:].to_csv(tmp_path / "seconds.csv", index=False)
    status, shown = run(*arguments, "--gpu-hours", 1)
    assert status == 1 and "no seconds of small/" in shown


def test_plan_takes_what_the_surface_expects_where_nothing_was_measured(study_file, analysis, tmp_path):
    variants = pd.DataFrame(
        {
            "model": "small",
            "variant": "w3-g32-c8-s0",
            "bits": 3.0,
            "group_size": 32.0,
            "calibration_size": 8.0,
            "stratum": ["memorization", "application", "reasoning"],
            "kind": "predicted",
            "accuracy": 0.987,
            "low": 0.98,
            "high": 0.99,
            "n_items": None,
        }
    )
    replace(analysis, variants=variants).write(tmp_path / "laws.json")
    arguments = ["--laws", tmp_path / "laws.json", "--memory", "1GB", "--context", 128]
    status, shown = run("plan", study_file, *arguments)
    assert status == 0 and "small w3-g32-c8-s0" in shown and "0.987" in shown
    assert "Note: small w3-g32-c8-s0 is predicted, not measured." in shown
    status, shown = run("plan", study_file, *arguments, "--risk", 0.025)
    assert status == 0 and "0.980" in shown
