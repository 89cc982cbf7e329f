import copy
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.study import Evaluation, Study, StudyError, read_study
from stratalaw.study.variants import BASELINE_NAME, Precision, Quantization

STUDY = {
    "name": "example",
    "models": [
        {"name": "small", "source": "models/small", "family": "f"},
        {"name": "large", "source": "models/large", "family": "f", "held_out": True},
    ],
    "grids": [
        {"bits": [2, 3], "group_size": [64, 128], "calibration_size": [8]},
        {"bits": [8], "group_size": [128], "calibration_size": [8], "models": "fitted"},
    ],
    "calibration": {"corpus": "text.jsonl", "tokens": 256},
    "evaluation": {"strata": {"memorization": [{"task": "recall", "chance": 0.25}]}},
}

MIXTURES = {
    "calibration.corpora": {"a": "a.jsonl", "b": "b.jsonl"},
    "calibration.mixtures": {"only_a": {"a": 1}, "even": {"a": 1, "b": 1}},
    "grids.0.calibration_mixture": ["only_a", "even"],
}


@pytest.fixture
def write(tmp_path):
    """Writes the example with changes given as {"grids.0.bits": [5], …}; None deletes a key."""

    def write_changed(changes: dict[str, object]) -> Path:
        study = copy.deepcopy(STUDY)
        for key, value in changes.items():
            *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
            section = study
            for part in parents:
                section = section[part]
            if value is None:
                del section[last]
            else:
                section[last] = value
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study))
        return path

    return write_changed


def test_variants_of_the_example(write):
    variants = read_study(write({})).variants()
    assert variants.variant.tolist() == [
        *("bf16", "w2-g64-c8-s0", "w2-g128-c8-s0", "w3-g64-c8-s0", "w3-g128-c8-s0", "w8-g128-c8-s0"),
        *("bf16", "w2-g64-c8-s0", "w2-g128-c8-s0", "w3-g64-c8-s0", "w3-g128-c8-s0"),
    ]
    assert variants.groupby("model").held_out.first().to_dict() == {"small": False, "large": True}


def test_a_mixture_is_a_factor_and_part_of_the_name(write):
    study = read_study(write(MIXTURES))
    variants = study.variants()
    assert variants.variant[variants.model == "large"].tolist() == [
        *("bf16", "w2-g64-c8-s0-even", "w2-g64-c8-s0-only_a", "w2-g128-c8-s0-even", "w2-g128-c8-s0-only_a"),
        *("w3-g64-c8-s0-even", "w3-g64-c8-s0-only_a", "w3-g128-c8-s0-even", "w3-g128-c8-s0-only_a"),
    ]
    named = variants.set_index(["model", "variant"]).calibration_mixture
    assert named["small", "w2-g64-c8-s0-even"] == "even" and named[["small"]].isna().sum() == 2
    assert Study(**study.as_plain()) == study
    assert study.quantization_of("small", "w2-g64-c8-s0-even") == Quantization(2, 64, 8, 0, mixture="even")


def test_what_is_not_given_of_mixtures_changes_no_values(write):
    values = read_study(write({})).as_plain()
    assert values["calibration"].keys() == {"corpus", "dataset", "revision", "tokens", "overlap_words"}
    assert "calibration_mixture" not in values["grids"][0]


def test_a_variant_that_two_grids_name_occurs_once(write):
    study = read_study(write({"grids.1": STUDY["grids"][0]}))
    assert not study.variants().duplicated(["model", "variant"]).any()


def test_each_seed_replicates_the_grid(write):
    variants = read_study(write({"grids.0.calibration_seed": [0, 1, 2]})).variants()
    grid = variants[variants.bits.isin([2, 3])]
    assert (grid.groupby("calibration_seed").size() == 8).all()


def test_the_ladder_has_782_variants_and_its_baselines():
    variants = read_study(Path("config/ladder.yaml")).variants()
    quantized = variants[variants.variant != BASELINE_NAME]
    assert len(quantized) == 782
    assert len(variants) - len(quantized) == 16
    assert quantized.bits.value_counts().to_dict() == {2: 256, 3: 256, 4: 256, 8: 14}
    assert set(quantized[quantized.held_out].model) == {"q8", "l8"}


@pytest.mark.parametrize(
    ("study", "models", "counted"),
    [
        ("config", 6, {2: 96, 3: 96, 4: 96, 8: 5}),
        ("llama3", 3, {3: 21, 4: 21}),
        ("smollm2", 3, {2: 27, 3: 27, 4: 27, 8: 3}),
    ],
)
def test_the_studies_of_real_models_have_their_variants(study, models, counted):
    variants = read_study(Path(f"config/{study}.yaml")).variants()
    assert variants.bits.value_counts().to_dict() == counted
    assert (variants.variant == BASELINE_NAME).sum() == models


def test_the_papers_study_holds_out_32b_and_has_all_its_factors():
    variants = read_study(Path("config/config.yaml")).variants()
    assert set(variants[variants.held_out].model) == {"qwen3-32b"}
    low = variants[variants.bits.isin([2, 3, 4])]
    assert (low.groupby(["model", "bits"])[["group_size", "calibration_size"]].nunique() == 4).all(axis=None)


def test_the_demo_has_three_models_and_at_least_24_variants():
    variants = read_study(Path("config/demo.yaml")).variants()
    assert variants.model.nunique() >= 3
    assert (variants.variant != BASELINE_NAME).sum() >= 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grids.0.bits": [5]}, "grids.0.bits.0: 5 is not one of 2, 3, 4, 8"),
        (
            {"grids.0.group_size": [96]},
            "grids.0.group_size.0: 96 is not one of -1, 16, 32, 64, 128, 256, 512, 1024 (gptqmodel's kernels)",
        ),
        ({"grids.0.bits": []}, "grids.0.bits: []: list should have at least 1 item after validation, not 0"),
        ({"grids": []}, "grids: there are none, and no model has checkpoints: there is nothing to score"),
        ({"grids.0.bits": [3, 3]}, "grids.0.bits: duplicate value in [3, 3]"),
        ({"grids.0.calibration_size": [10**30]}, f"grids.0.calibration_size.0: {10**30}: input should be less "
         "than or equal to 1000000"),
        ({"grids.0.calibration_seed": [10**30]}, f"grids.0.calibration_seed.0: {10**30}: input should be less "
         "than 4294967296"),
        ({"calibration.tokens": 10**30}, f"calibration.tokens: {10**30}: input should be less than"),
        ({"evaluation.items": 10**30}, f"evaluation.items: {10**30}: input should be less than"),
        ({"gptq": {"threads": 10**30}}, f"gptq.threads: {10**30}: input should be less than"),
        ({"grids.0.calibration_size": list(range(1, 9999)), "grids.0.calibration_seed": list(range(9999))},
         "grids: they name 799,760,017 variants; a study has at most 100,000"),
        ({"calibration.corpus": "x" * 300}, "calibration.corpus: longer than file systems take"),
        ({"calibration.corpus": "x/" * 600}, "calibration.corpus: longer than file systems take"),
        ({"models.0.family": "a" * 9999}, "models.0.family: 'aaa"),
        ({"evaluation.strata.memorization.0.\x1b[2J": 1}, "evaluation.strata.memorization.0.\\x1b[2J: unknown key"),
        ({"grids.0.colour": 1}, "grids.0.colour: unknown key; allowed here: bits, group_size, calibration_size, "
         "calibration_seed, calibration_mixture, models"),
        ({"colour": 1}, "colour: unknown key; allowed here: name, models, grids, gptq, calibration, evaluation"),
        ({"gptq": {"dampening": 0.1}}, "gptq.dampening: unknown key; allowed here: damping, symmetric, "
         "activation_order, sequential_within_layer, batch_size, threads"),
        ({"evaluation.strata.memorization.0.color": 1}, "evaluation.strata.memorization.0.color: unknown key; "
         "allowed here: task, revision, metric, filter, shots, chat_template, fewshot_as_multiturn, "
         "system_instruction, chance"),
        ({"calibration": None}, "calibration: this key is missing"),
        ({"grids.0.models": ["tiny"]}, "grids.0.models: tiny is not one of small, large"),
        ({"models.1.name": "small"}, "duplicate model name: small"),
        ({"models.0.name": "../up"}, "models.0.name: '../up': string should match pattern "),
        ({"models.0.revision": "main"}, "models.0.revision: 'main': string should match pattern "),
        ({"calibration.revision": "a" * 40}, "calibration: `revision` is set without `dataset`"),
        ({"calibration.dataset": "c4"}, "calibration.dataset: 'c4': string should match pattern "),
        ({"evaluation.strata.memorization.0.chance": 1}, "evaluation.strata.memorization.0.chance: 1: input should be "
         "less than 1"),
        ({"evaluation.strata.memorization.0.chance": "1/0"}, "evaluation.strata.memorization.0.chance: 1/0: the "
         "denominator is 0"),
        ({"evaluation.strata.memorization.0.chance": "4/3"}, "evaluation.strata.memorization.0.chance: 1.333"),
        ({"evaluation.strata.memorization.0.chat_template": "yes please"}, "evaluation.strata.memorization.0."
         "chat_template: 'yes please' is neither true nor false"),
        ({"evaluation.strata.memorization.0.fewshot_as_multiturn": True}, "evaluation.strata.memorization.0: "
         "`fewshot_as_multiturn` is set without `chat_template: true`"),
        ({"models.0.checkpoints": [{"name": "bf16", "source": "a"}]}, "models.0.checkpoints.0.name: bf16 is the name "
         "of a variant that is made here; give another"),
        ({"models.0.checkpoints": [{"name": "a", "source": "a"}] * 2}, "models.0.checkpoints: duplicate checkpoint "
         "name: a"),
        ({"models.0.checkpoints": [{"name": "a", "source": "a/b", "file": "../x.gguf"}]},
         "models.0.checkpoints.0.file: ../x.gguf is no GGUF file of the repository"),
        ({"evaluation.items": True}, "evaluation.items: true or false (yes or no) is not a value of this key"),
        ({"grids.0.calibration_seed": [0, True]}, "grids.0.calibration_seed: true or false (yes or no) is not a value"),
        ({"models.0.held_out": 1}, "models.0.held_out: 1 is neither true nor false"),
        ({"calibration.corpus": None}, "calibration: `corpus` is missing"),
        ({"grids.0.calibration_mixture": ["even"]}, "grids.0.calibration_mixture: even is not there: "
         "`calibration.mixtures` is missing"),
        ({"calibration.mixtures": {"even": {"a": 1}}}, "calibration: mixtures.even: a is not there: `corpora` is "),
        (MIXTURES | {"calibration.mixtures": {"even": {"c": 1}}}, "calibration: mixtures.even: c is not one of a, b"),
        (MIXTURES | {"calibration.mixtures": {"a-b": {"a": 1}}}, "calibration.mixtures.a-b"),
        (MIXTURES | {"calibration.mixtures": {"even": {"a": 0}}}, "calibration.mixtures.even.a: 0: input should be"),
        (MIXTURES | {"grids.0.calibration_mixture": ["od"]}, "grids.0.calibration_mixture: od is not one of even, "),
        (MIXTURES | {"grids.0.calibration_mixture": ["even"] * 2}, "grids.0.calibration_mixture: duplicate value"),
        (MIXTURES | {"calibration.corpus": None}, "grids.1: it names no `calibration_mixture`, and "
         "`calibration.corpus` is missing"),
        ({"evaluation.strata.application": STUDY["evaluation"]["strata"]["memorization"]},
         "evaluation: task recall occurs twice"),
        ({"evaluation.strata": {"general": STUDY["evaluation"]["strata"]["memorization"]}},
         "evaluation: stratum general: the name is reserved for a mean over strata"),
    ],
)  # fmt: skip
def test_a_bad_study_is_refused_in_one_line(write, changes, message):
    path = write(changes)
    with pytest.raises(StudyError) as error:
        read_study(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 800


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("just text", "a study is a mapping with the keys name, models, grids, gptq, calibration, evaluation"),
        ("", "a study is a mapping with the keys name, models, grids, gptq, calibration, evaluation"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as error:
        read_study(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_chance_may_be_a_fraction(write):
    study = read_study(write({"evaluation.strata.memorization.0.chance": "1/3"}))
    assert study.evaluation.strata["memorization"][0].chance == 1 / 3
    assert Study(**study.as_plain()) == study


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"absent.yaml: there is no such file"):
        read_study(tmp_path / "absent.yaml")


def test_the_schema_in_the_repository_is_up_to_date():
    printed = CliRunner().invoke(app, ["schema"]).stdout
    assert Path("config/study.schema.json").read_text() == printed, "run: stratalaw schema > config/study.schema.json"


@pytest.mark.parametrize("path", sorted(Path("config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_study_in_the_repository_is_valid_and_names_the_schema(path):
    read_study(path)
    assert path.read_text().startswith("# yaml-language-server: $schema=study.schema.json\n")


ALLOCATION = {"bits": 3, "group_size": 128, "matrices": {"model.layers.0.mlp.down_proj": {"bits": 4}}}


@pytest.fixture
def write_mixed(write, tmp_path):
    """A study whose first model has mixed variants of an allocation, which lies in a file beside it."""

    def written(allocation: object) -> Path:
        (tmp_path / "keep.yaml").write_text(yaml.safe_dump(allocation))
        mixed = [{"allocation": "keep.yaml", "calibration_size": [8, 16], "calibration_seed": [1]}]
        return write({"models.0.mixed": mixed})

    return written


def test_an_allocation_names_a_mixed_variant_for_each_draw(write_mixed):
    study = read_study(write_mixed(ALLOCATION))
    small = study.variants().query("model == 'small' and calibration_seed == 1")
    assert small.calibration_size.tolist() == [8, 16] and small.bits.isna().all() and small.group_size.isna().all()
    first = study.quantization_of("small", small.variant.iloc[0])
    assert first == Quantization(3, 128, 8, 1, (("model.layers.0.mlp.down_proj", Precision(4, 128)),))
    assert study.quantization_of("large", first.name) is None
    assert [name for _, name in study.variant_names()] == study.variants().variant.tolist()


def test_a_study_with_mixed_variants_says_all_without_the_files(write_mixed, tmp_path):
    study = read_study(write_mixed(ALLOCATION))
    (tmp_path / "keep.yaml").unlink()
    assert Study(**study.as_plain()) == study
    assert "mixed" not in study.as_plain()["models"][1]


@pytest.mark.parametrize(
    ("allocation", "message"),
    [
        (ALLOCATION | {"bits": 5}, "keep.yaml: bits: 5 is not one of 2, 3, 4, 8"),
        (
            ALLOCATION | {"matrices": {"model.layers.0.mlp.down_proj": {"bits": 4, "group": 64}}},
            "keep.yaml: matrices.model.layers.0.mlp.down_proj.group: unknown key; allowed here: ",
        ),
        (
            ALLOCATION | {"bits": 4},
            "keep.yaml: every matrix has the same bits and group size; name such a variant in a grid",
        ),
        ([3, 4], "keep.yaml: an allocation is a mapping with the keys bits, group_size, matrices"),
    ],
)
def test_an_allocation_that_means_nothing_is_refused_by_its_file(write_mixed, allocation, message):
    with pytest.raises(StudyError, match=re.escape(message)):
        read_study(write_mixed(allocation))


def test_an_allocation_that_is_not_there_is_named(write):
    path = write({"models.0.mixed": [{"allocation": "gone.yaml", "calibration_size": [8]}]})
    with pytest.raises(StudyError, match=r"study.yaml: models.0.mixed.0.allocation: there is no file gone.yaml"):
        read_study(path)


def test_a_study_without_a_precision_is_what_it_was_before_there_was_one(write):
    """Jobs of finished studies depend on these values."""
    study, precise = (read_study(write({"evaluation.paired_stderr": goal} if goal else {})) for goal in (None, 0.01))
    assert "paired_stderr" not in study.as_plain()["evaluation"]
    assert Study(**precise.as_plain()) == precise != study
    for values in (Evaluation.for_requests, Evaluation.for_scores):
        assert "paired_stderr" not in values(study.evaluation)
        assert values(study.evaluation) == values(precise.evaluation)
