"""An answer fits the memory, holds what was asked, and can be traced to rows."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.models.folder import ModelError
from stratalaw.models.known_shapes import shapes_of_original
from stratalaw.models.shipped import shipped_models
from stratalaw.published.answer import (
    CHANCE,
    FITS,
    FITS_NOT,
    FITS_WITH_8,
    AnswerError,
    Question,
    answer,
    memory_taken,
    subject_in,
    subject_of,
)
from stratalaw.study.variants import BASELINE_BITS, Quantization
from stratalaw.terminal.published import choice, known
from stratalaw.units import readable_bytes


def run(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def answered(name, law, rows, memory, context=4096, **asked):
    return answer(subject_of(name), Question(memory, context, **asked), law, rows)


def test_what_fits_is_what_the_shapes_take(law, rows):
    found = answered("Qwen/Qwen3-8B", law, rows, 12e9, context=32768)
    shapes = shipped_models()["Qwen/Qwen3-8B"].shapes
    for row in found.options.itertuples():
        variant = None if row.bits == BASELINE_BITS else Quantization.from_name(row.variant)
        assert row.memory == shapes.memory_bytes(variant, 32768)
        assert row.memory - row.memory_8 == shapes.cache_bytes(32768) / 2
        assert row.fits == (FITS if row.memory <= 12e9 else FITS_WITH_8 if row.memory_8 <= 12e9 else FITS_NOT)
    assert {FITS_WITH_8, FITS_NOT} <= set(found.options.fits)
    assert found.options.fits[found.chosen] != FITS_NOT


def test_the_original_is_kept_where_it_fits(law, rows):
    found = answered("Qwen/Qwen3-8B", law, rows, 24e9)
    assert found.options.bits[found.chosen] == BASELINE_BITS
    assert answered("Qwen/Qwen3-8B", law, rows, 1e9).chosen is None


def test_less_is_kept_at_fewer_bits_and_surer_of_a_known_model(law, rows):
    known, unknown = (answered(name, law, rows, 12e9).options for name in ("Qwen/Qwen3-8B", "allenai/OLMo-2-1124-7B"))
    strata = ("memorization", "application", "reasoning")
    for options in (known, unknown):
        assert all(options.groupby("bits")[f"kept_{stratum}"].mean().is_monotonic_increasing for stratum in strata)
    of_known, of_unknown = (
        sum((part[f"high_{stratum}"] - part[f"low_{stratum}"])[part.variant == "w4-g128-c128-s0"] for stratum in strata)
        for part in (known, unknown)
    )
    assert of_known.item() < of_unknown.item()


def test_a_baseline_anchors_the_accuracy(law, rows):
    found = answered("Qwen/Qwen3-8B", law, rows, 12e9, baselines={"mmlu": 0.77})
    accuracies = found.accuracies.set_index("variant")
    kept = found.options.set_index("variant").kept_memorization  # which mmlu alone stands for
    for variant, row in accuracies.iterrows():
        assert row.accuracy == pytest.approx(0.25 + 0.52 * kept[variant], abs=1e-6)
        assert 0.25 <= row.low <= row.accuracy <= row.high <= 0.77 + 1e-9


def test_relatives_are_compared_by_originals_of_one_source(law, rows):
    found = answered("Qwen/Qwen3-8B", law, rows, 12e9, keep=("reasoning",))
    assert found.relatives.model.iloc[0] == "Qwen/Qwen3-14B" and set(found.relatives.source) == {"qwen3-study"}
    assert (found.relatives.fits != FITS_NOT).all()
    alone = answered("allenai/OLMo-2-1124-7B", law, rows, 12e9)
    assert alone.relatives.expected.isna().all()


@pytest.mark.parametrize("name", ["Qwen/Qwen3-4B", "google/gemma-2-9b", "meta-llama/Llama-3.2-1B"])
def test_one_model_is_chosen_of_in_the_same_way_everywhere_and_what_is_shown_fits(law, rows, name):
    for memory in np.geomspace(1e9, 30e9, 12):
        found = answered(name, law, rows, memory, context=8192, keep=("reasoning",))
        own = found.relatives[found.relatives.model == name]
        assert (found.chosen is None) == own.empty
        for option in found.relatives.to_dict("records"):
            assert memory_taken(option) <= memory
        if found.chosen is not None:
            chosen = found.options.loc[found.chosen]
            assert list(own.variant) == [chosen.variant]
            assert memory_taken(dict(chosen)) <= memory and readable_bytes(memory_taken(dict(chosen))) in choice(found)


def test_models_of_the_library_have_its_family_and_are_said_to_be_in_it(law, rows):
    families = rows.drop_duplicates("model").set_index("model").family
    of_library = [name for name in shipped_models() if subject_of(name).in_library in families]
    assert len(of_library) > 30
    for name in of_library:
        subject = subject_of(name)
        assert subject.family_in(rows) == families[subject.in_library]
    found = answered("Qwen/Qwen2.5-7B-Instruct", law, rows, 6e9)
    assert found.is_known and "in the tables itself" in known(found)


def test_a_folder_that_is_called_as_a_shipped_model_and_has_its_shapes_is_that_model(tmp_path, law, rows):
    config = dict(shipped_models()["Qwen/Qwen3-8B"].config) | {"rms_norm_eps": 1e-6}
    for name in ("Qwen3-8B", "another"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    asked = Question(12 * 10**9, 4096)
    same, other = (
        answer(subject_in(tmp_path / name, shapes_of_original(tmp_path / name)), asked, law, rows)
        for name in ("Qwen3-8B", "another")
    )
    by_name = answered("Qwen/Qwen3-8B", law, rows, 12 * 10**9)
    columns = [name for name in by_name.options if name != "model"]
    pd.testing.assert_frame_equal(same.options[columns], by_name.options[columns])
    assert same.is_known and not other.is_known
    assert known(other) == "is in no table by that name, and its family is not known"
    quantized = config | {"quantization_config": {"quant_method": "awq"}}
    (tmp_path / "another" / "config.json").write_text(json.dumps(quantized))
    with pytest.raises(ModelError, match=r"quantized already \(quantization_config\); name the original"):
        shapes_of_original(tmp_path / "another")


def test_chances_are_those_of_the_library(library):
    of_library = library.groupby("benchmark").chance.unique()
    assert all(set(of_library[benchmark]) == {chance} for benchmark, chance in CHANCE.items())


def test_numbers_are_traced_to_rows(law, rows, library):
    table = answered("Qwen/Qwen3-8B", law, rows, 12e9).table()
    row = table[(table.bits == 4) & (table.stratum == "memorization")].iloc[0]
    traced = library.iloc[[int(number) - 1 for number in row["rows"].split()]]
    assert set(traced.model) == {"Qwen/Qwen3-8B"} and set(traced.bits) == {4} and set(traced.benchmark) == {"mmlu"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"keep": ("wit",)}, "--keep wit: not one of memorization, application, reasoning"),
        ({"baselines": {"wit": 0.5}}, "--baseline wit: not one of arc_challenge"),
        ({"baselines": {"mmlu": 77}}, r"--baseline mmlu: 77 is not between chance \(0.25\) and 1"),
        ({"context": 10**6}, "--context 1000000: Qwen/Qwen3-8B takes 40,960 tokens"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(law, rows, asked, message):
    with pytest.raises(AnswerError, match=message):
        answered("Qwen/Qwen3-8B", law, rows, 12e9, **asked)


def test_the_command_answers_and_writes(tmp_path):
    out = tmp_path / "options.csv"
    status, shown = run("plan", "Qwen/Qwen3-8B", "--memory", "12GB", "--keep", "reasoning", "--explain", "--out", out)
    assert status == 0, shown
    assert "Choose " in shown and "is in the tables itself" in shown and "Nearest measurements" in shown
    assert "stratalaw new qwen3-8b.yaml --model Qwen/Qwen3-8B --variant w8-g-1-c128 --benchmark reasoning=" in shown
    table = pd.read_csv(out)
    assert table.chosen.sum() == 3 and {"kept", "low", "high", "rows"} <= set(table)


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/my-model.md"])
def test_pages_say_what_the_command_says(page):
    (block,) = re.findall(r"```text\n(.*?)```", Path(page).read_text(), flags=re.DOTALL)
    (command,) = set(re.findall(r"^    stratalaw (plan Qwen.*reasoning)$", Path(page).read_text(), flags=re.MULTILINE))
    shown = " ".join(run(*command.split())[1].split())
    for line in block.replace("…\n", "").splitlines():
        assert " ".join(line.split()) in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Qwen/Qwen3-8B"], "--memory is missing"),
        (["Qwen/Qwen3-8B", "--memory", "much"], "--memory much: not an amount such as 12GB"),
        (["Qwen/Qwen3-8B", "--memory", "12,5GB"], "--memory 12,5GB: not an amount such as 12GB"),
        (["me/unknown-8B", "--memory", "8GB"], "me/unknown-8B: neither a study"),
        (["qwen3-8b", "--memory", "8GB"], "shapes are shipped; Qwen/Qwen3-8B or"),
        (
            ["Qwen/Qwen3-8B", "--memory", "8GB", "--baseline", "mmlu"],
            "'mmlu' is not a benchmark and an accuracy such as",
        ),
        (["nowhere.yaml", "--memory", "8GB"], "nowhere.yaml: no such file"),
        (
            ["ladder/models/q8", "--memory", "4MB", "--context", "256"],
            "q8 has 2.27M parameters, published models 99.7M",
        ),
        (["Qwen/Qwen3-8B", "--memory", "8GB", "--floor", "reasoning=0.5"], "--floor is not for a model"),
        (["config/ladder.yaml", "--memory", "8GB", "--keep", "reasoning"], "--keep is not for a study"),
        (["config/ladder.yaml", "--memory", "8GB"], "to plan with a study, give its --laws"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message):
    status, shown = run("plan", *arguments)
    assert status == 1 and message in shown and len(shown.strip().splitlines()) == 1


def test_an_own_table_changes_the_answer(tmp_path):
    rows = [
        ["me/m-7B", "Mine", 7e9, "GPTQ", bits, 128, benchmark, accuracy, 0.25, 10000, "mine"]
        for benchmark in ("mmlu", "hellaswag", "arc_challenge")
        for bits, accuracy in ((16, 0.75), (4, 0.30))
    ]
    columns = [
        "model",
        "family",
        "n_params",
        "method",
        "bits",
        "group_size",
        "benchmark",
        "accuracy",
        "chance",
        "n_items",
        "source_id",
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "own.csv", index=False)
    status, shown = run("fit", tmp_path / "own.csv", "--library", "--out", tmp_path)
    assert status == 0 and "3 of them are your own" in shown, shown
    law = json.loads((tmp_path / "laws.json").read_text())
    assert law["effects"]["model"]["me/m-7B"][0] > 0.2
    status, shown = run("plan", "Qwen/Qwen3-8B", "--memory", "8GB", "--laws", tmp_path / "laws.json")
    assert status == 0 and "84 models from 15 sources" in shown
    model = tmp_path / "m-7B"
    model.mkdir()
    config = shipped_models()["mistralai/Mistral-7B-v0.1"].config | {"rms_norm_eps": 1e-5}
    (model / "config.json").write_text(json.dumps(config))
    measurements = (tmp_path / "measurements.csv").read_text().splitlines()
    (tmp_path / "measurements.csv").write_text("\n".join(measurements[:-1]))
    status, shown = run("plan", model, "--memory", "8GB", "--laws", tmp_path / "laws.json")
    assert (
        status == 1
        and "measurements.csv beside it is not what it was fitted to" in shown
        and len(shown.splitlines()) == 1
    )
    (tmp_path / "measurements.csv").unlink()
    status, shown = run("plan", model, "--memory", "8GB", "--laws", tmp_path / "laws.json")
    assert status == 1 and "keep it beside the law" in shown
