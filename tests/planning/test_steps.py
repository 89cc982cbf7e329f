"""What is measured next, of a study whose every accuracy is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stratalaw.models.known_shapes import shapes_of_folder
from stratalaw.planning.belief import Belief
from stratalaw.planning.sequence import next_batch
from stratalaw.planning.steps import COMPLETE, REACHED, SPENT, Goal, next_step, precision_of
from stratalaw.planning.wishes import WishError, wish_of
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME
from stratalaw.terminal.steps import describe_step

SIZES = {"m1": 1e8, "m2": 4e8, "m3": 2e9}
SECOND = 1.0


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.model_validate(
        {
            "name": "three",
            "models": [{"name": name, "source": name, "family": "one"} for name in SIZES],
            "grids": [{"bits": [2, 3, 4], "group_size": [16, 128], "calibration_size": [8, 128]}],
            "calibration": {"corpus": "c.jsonl", "tokens": 256},
            "evaluation": {
                "strata": {
                    "memorization": [{"task": "facts", "chance": 0.25}],
                    "reasoning": [{"task": "chains", "chance": 0.0}],
                }
            },
        }
    )


@pytest.fixture(scope="module")
def truth(study) -> pd.DataFrame:
    """Observations of the whole study: the anchored law, with a deviation of each model, and a thousand items."""
    random = np.random.default_rng(0)
    rows = []
    for stratum, benchmarks in study.evaluation.strata.items():
        deviation = dict(zip(SIZES, random.normal(0, 0.2, len(SIZES)), strict=True))
        original = dict(zip(SIZES, random.uniform(0.5, 0.8, len(SIZES)), strict=True))
        for row in study.variants().itertuples():
            adjusted, is_original = original[row.model], row.variant == BASELINE_NAME
            if not is_original:
                log_damage = -1.3 * (row.bits - 3) + 0.35 * np.log(row.group_size / 64) - 1.2 + deviation[row.model]
                log_damage -= 0.1 * np.log(row.calibration_size / 32)
                adjusted *= np.exp(-np.exp(log_damage))
            chance = benchmarks[0].chance
            rows.append(
                {
                    "model": row.model,
                    "family": row.family,
                    "n_params": SIZES[row.model],
                    "variant": row.variant,
                    "bits": BASELINE_BITS if is_original else row.bits,
                    "group_size": np.nan if is_original else row.group_size,
                    "calibration_size": np.nan if is_original else row.calibration_size,
                    "stratum": stratum,
                    "benchmark": benchmarks[0].task,
                    "chance": chance,
                    "accuracy": random.binomial(1000, chance + (1 - chance) * adjusted) / 1000,
                    "n_items": 1000,
                }
            )
    floats = dict.fromkeys(("bits", "group_size", "calibration_size"), float)
    return pd.DataFrame(rows).astype(floats)


@pytest.fixture(scope="module")
def seconds(study) -> dict[tuple[str, str], float]:
    return {name: SIZES[name[0]] / 1e8 for name in study.variant_names()}


def part(truth: pd.DataFrame, variants) -> pd.DataFrame:
    named = pd.MultiIndex.from_frame(truth[["model", "variant"]])
    return truth[named.isin(list(variants))].reset_index(drop=True)


def measure(study, truth, seconds, goal: Goal, have=frozenset()):
    """All steps until there is nothing more to measure."""
    have, steps = set(have), []
    while True:
        step = next_step(study, part(truth, have) if have else None, have, SIZES, seconds, goal)
        steps.append(step)
        if not step.variants:
            return steps, have
        assert not have & set(step.variants)
        have |= set(step.variants)


def originals(study) -> set[tuple[str, str]]:
    return {(model.name, BASELINE_NAME) for model in study.models}


def test_originals_come_first_and_cheap_models_before_dear_ones(study, truth, seconds):
    step = next_step(study, None, set(), SIZES, seconds, Goal(wish_of(None, study, {}), most=4))
    assert set(step.variants[:3]) == originals(study)
    assert len(step.variants) == 7 and {model for model, _ in step.variants[3:5]} == {"m1"}


def test_a_precision_is_reached_without_measuring_everything(study, truth, seconds):
    goal = Goal(wish_of(None, study, {}), precision=0.04)
    steps, have = measure(study, truth, seconds, goal)
    assert steps[-1].ended == REACHED and steps[-1].before.max() <= 0.04
    assert len(have) < len(study.variant_names())
    belief = steps[-1].belief
    true = truth.set_index(["model", "variant", "stratum"]).accuracy
    error = belief.mean - true[pd.MultiIndex.from_frame(belief.cells[["model", "variant", "stratum"]])].to_numpy()
    assert np.abs(error).max() < 0.08


def test_a_precision_that_nothing_but_measuring_reaches_asks_for_all(study, truth, seconds):
    steps, have = measure(study, truth, seconds, Goal(wish_of(None, study, {}), precision=1e-4))
    assert steps[-1].ended in (REACHED, COMPLETE) and have == set(study.variant_names())


def test_a_budget_counts_what_was_measured_before(study, truth, seconds):
    budget = 60.0
    steps, have = measure(study, truth, seconds, Goal(wish_of(None, study, {}), seconds=budget))
    assert steps[-1].ended == SPENT
    assert 0.8 * budget < sum(seconds[name] for name in have) <= budget


@pytest.mark.parametrize("text", ["exponent gamma", "plan --memory 1MB --context 256"])
def test_anything_can_be_asked_before_anything_is_measured(study, seconds, shapes, text):
    step = next_step(study, None, set(), SIZES, seconds, Goal(wish_of(text, study, shapes), most=3))
    assert set(step.variants) > originals(study) and not step.ended


def test_what_is_asked_decides_what_is_measured(study, truth, seconds):
    goal = Goal(wish_of("reasoning of m2/w3", study, {}), most=4)
    step = next_step(study, part(truth, originals(study)), originals(study), SIZES, seconds, goal)
    assert len(step.before) == 4
    assert ("m3", "w2-g16-c8-s0") not in step.variants
    assert sum(model == "m2" and variant.startswith("w3") for model, variant in step.variants) >= 1
    only = next_step(study, None, set(), SIZES, seconds, Goal(wish_of("m1", study, {}), most=2))
    assert only.variants[0] == ("m1", BASELINE_NAME) and {model for model, _ in only.variants} == {"m1"}


def test_what_cannot_be_quantized_is_not_asked_again(study, truth, seconds):
    tried = originals(study) | {("m1", "w2-g128-c8-s0")}
    step = next_step(
        study, part(truth, originals(study)), tried, SIZES, seconds, Goal(wish_of(None, study, {}), most=99)
    )
    assert ("m1", "w2-g128-c8-s0") not in step.variants and len(step.variants) == 35
    assert step.after.max() < 1e-3  # what will never be known is not waited for


def test_measuring_a_whole_batch_brings_what_was_expected(study, truth, seconds):
    have = originals(study) | set(study.variant_names()[1:40:3])
    belief = Belief.of(study, part(truth, have), SIZES)
    targets = wish_of(None, study, {}).targets(belief)
    cost = np.ones(len(belief.variants))
    batch = next_batch(belief, targets, cost, most=5)
    names = list(zip(belief.variants.model, belief.variants.variant, strict=True))
    after = Belief.of(study, part(truth, have | {names[place] for place in batch.variants}), SIZES)
    found = wish_of(None, study, {}).targets(after).half_widths(after.quantile)
    assert batch.after.mean() < batch.before.mean()
    assert found.mean() == pytest.approx(batch.after.mean(), rel=0.5)


@pytest.mark.parametrize("text", ["exponent delta of reasoning", "claim group-low-bits"])
def test_exponents_and_claims_become_surer_as_more_is_measured(study, truth, text):
    wish = wish_of(text, study, {})
    few = originals(study) | set(study.variant_names()[1:40:5])
    many = few | set(study.variant_names()[1:40:2])
    widths = []
    for have in (few, many):
        belief = Belief.of(study, part(truth, have), SIZES)
        widths.append(wish.targets(belief).half_widths(belief.quantile).mean())
    assert 0 < widths[1] < widths[0]
    everything = Belief.of(study, truth, SIZES)
    assert wish.targets(everything).half_widths(everything.quantile).max() < 1e-6


def test_a_decision_is_that_of_the_whole_study(study, truth, seconds, shapes):
    for limit in (shapes["m2"].memory_bytes(None, 256) // 3, shapes["m3"].memory_bytes(None, 256) // 4):
        wish = wish_of(f"plan --memory {limit}B --context 256 --weight reasoning=2", study, shapes)
        everything = Belief.of(study, truth, SIZES)
        steps, have = measure(study, truth, seconds, Goal(wish, precision=0.9))
        assert steps[-1].ended == REACHED and len(have) < 30
        assert wish.choice(steps[-1].belief) == wish.choice(everything)
        assert wish.sureness(everything) == 1.0
        assert "the same with a probability of" in steps[-1].answer


def test_a_floor_is_reached_by_the_smallest_that_does(study, truth, shapes):
    everything = Belief.of(study, truth, SIZES)
    wish = wish_of("plan --floor reasoning=0.5 --context 256", study, shapes)
    chosen = wish.choice(everything)
    table = truth[truth.stratum == "reasoning"].set_index(["model", "variant"]).accuracy
    model, variant = chosen.split("/")
    assert table[model, variant] >= 0.5
    assert wish_of("plan --floor reasoning=0.999", study, shapes).choice(everything) == ""


@pytest.fixture(scope="module")
def shapes():
    """Of the ladder's models in their place."""
    folders = (Path("ladder/models") / name for name in ("q3", "q5", "q8"))
    return {name: shapes_of_folder(folder) for name, folder in zip(SIZES, folders, strict=True)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recall of w3", "the strata are memorization, reasoning"),
        (
            "m9/w3",
            "'m9/w3' is neither one of the strata (memorization, reasoning) and models (m1, m2, m3) nor",
        ),
        ("memorization, speed of w3", "the strata are"),
        ("plan", "a plan has a --memory, such as 8GB, or a --floor"),
        ("plan --memory much", "'much' is no memory such as 8GB"),
        ("plan --floor speed=1", "'speed' is not one of memorization, reasoning"),
        ("exponent zeta", "an exponent is one of c, gamma, delta"),
        ("claim flat", "the claims are bits, size, calibration"),
    ],
)
def test_what_is_not_understood_is_named(study, text, message):
    with pytest.raises(WishError, match=r"^--for ") as error:
        wish_of(text, study, {})
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_variant_that_the_study_does_not_have_is_named(study, truth):
    belief = Belief.of(study, part(truth, originals(study)), SIZES)
    with pytest.raises(WishError, match="the study has no such variant"):
        wish_of("w8", study, {}).targets(belief)


def test_a_precision_is_in_the_unit_of_what_is_asked(study):
    accuracies, exponent = wish_of(None, study, {}), wish_of("exponent c", study, {})
    decision = wish_of("plan --memory 8GB", study, {})
    assert precision_of("±2", accuracies) == precision_of("2", accuracies) == 0.02
    assert precision_of("+-0.1", exponent) == 0.1 and precision_of("95%", decision) == 0.95
    for text, wish in (("95%", accuracies), ("±2", decision), ("two", exponent), ("0", exponent), ("101%", decision)):
        with pytest.raises(WishError, match=r"^--until "):
            precision_of(text, wish)


def test_the_whole_study_is_believed_as_measured(study, truth):
    belief = Belief.of(study, truth, SIZES)
    assert belief.cells.is_measured.all() and not belief.covariance.any()
    quantized = truth[truth.bits < BASELINE_BITS].set_index(["model", "variant", "stratum"]).accuracy
    named = pd.MultiIndex.from_frame(belief.cells[["model", "variant", "stratum"]])
    assert np.allclose(belief.mean, quantized[named])


@pytest.mark.parametrize("text", ["m2/w3-g128", "plan --memory 700MB"])
def test_what_is_asked_is_weighed_where_not_all_variants_can_be(study, truth, seconds, monkeypatch, text):
    monkeypatch.setattr("stratalaw.planning.belief.MOST_VARIANTS", 12)
    rungs = dict(zip(SIZES, ("q1", "q4", "q8"), strict=True))
    shapes = {name: shapes_of_folder(Path("ladder/models") / rung) for name, rung in rungs.items()}
    limit = shapes["m2"].memory_bytes(None, 16)
    wish = wish_of(text.replace("700MB", f"{limit}B --context 16"), study, shapes)
    goal = Goal(wish, most=3)
    step = next_step(study, part(truth, originals(study)), originals(study), SIZES, seconds, goal)
    weighed = step.belief.variants
    assert len(weighed) == 12 and step.belief.possible == 36
    told = describe_step(step, goal)
    assert told[0].startswith("Measured: 0 of 36 variants") and told[1].startswith("12 of them are weighed")
    if text.startswith("m2"):
        assert {"w3-g128-c8-s0", "w3-g128-c128-s0"} <= set(weighed.variant[weighed.model == "m2"])
    else:
        assert "m3" not in set(weighed.model)  # no variant of it fits
