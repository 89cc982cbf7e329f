"""Items of variants that were not run: what is said of them against what they then answer."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.planning.forecasts import Forecaster, ForecastError, gaps

CHANCE = {"facts": 0.25}
LOSSES = {"bf16": 0.0, "w8": 0.02, "w4": 0.4, "w4b": 0.5, "w3": 1.2, "w3b": 1.4, "w2": 3.0}
ITEMS = 1500


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    """Two models: an item is right as long as its margin outlasts what quantization takes, which is partly an own
    weakness of the item, the same in all variants."""
    random = np.random.default_rng(0)
    tables = []
    for model in ("a", "b"):
        margin, weakness = random.normal(1.5, 1.5, ITEMS), random.normal(0, 1, ITEMS)
        for variant, loss in LOSSES.items():
            left = margin - loss * (1 + weakness) + 0.3 * loss * random.normal(size=ITEMS)
            tables.append(
                pd.DataFrame(
                    {
                        "model": model,
                        "variant": variant,
                        "stratum": "facts",
                        "task": "birthdays",
                        "document": range(ITEMS),
                        "score": (left > 0).astype(float),
                        "gap": np.abs(left),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def expected_of(items) -> dict:
    return items.groupby(["model", "variant", "stratum"]).score.mean().to_dict()


def forecasts(items, known: dict[str, set[str]]) -> pd.DataFrame:
    """Of all variants of the models that are not known, beside what they answered."""
    pairs = list(zip(items.model, items.variant, strict=True))
    seen = items[[variant in known[model] for model, variant in pairs]]
    forecaster = Forecaster.fit(seen, expected_of(items), CHANCE)
    tables = []
    for model in known:
        for variant in sorted(LOSSES.keys() - known[model]):
            own = items[(items.model == model) & (items.variant == variant)]
            found = forecaster.forecast(model, variant).merge(own, on=["stratum", "task", "document"])
            tables.append(found)
    return pd.concat(tables, ignore_index=True)


def brier(table: pd.DataFrame, probability) -> float:
    return float(((probability - table.score) ** 2).mean())


def test_margins_and_neighbours_tell_which_items_go(items):
    known = {"a": {"bf16", "w4", "w3", "w2"}, "b": {"bf16", "w4b", "w3b", "w2"}}
    found = forecasts(items, known)
    share = found.groupby(["model", "variant"]).score.transform("mean")
    assert brier(found, found.probability) < 0.6 * brier(found, share)
    alone = forecasts(items, {"a": {"bf16"}, "b": {"bf16", "w4", "w3", "w2"}})
    of_alone = alone[(alone.model == "a") & alone.variant.isin(["w4b", "w3b"])]
    of_all = found[(found.model == "a") & found.variant.isin(["w4b", "w3b"])]
    share = of_alone.groupby("variant").score.transform("mean")
    assert brier(of_all, of_all.probability) < brier(of_alone, of_alone.probability) < 0.8 * brier(of_alone, share)


def test_probabilities_are_what_happens(items):
    known = {"a": {"bf16", "w4", "w3", "w2"}, "b": {"bf16", "w4b", "w3b", "w2"}}
    found = forecasts(items, known)
    groups = found.groupby(pd.cut(found.probability, np.linspace(0, 1, 6)), observed=True)
    counted = groups.agg(said=("probability", "mean"), happened=("score", "mean"), count=("score", "size"))
    assert ((counted.said - counted.happened).abs() < 0.06)[counted["count"] > 100].all()


def test_they_add_up_to_the_accuracy_that_is_expected(items):
    expected = expected_of(items) | {("a", "w4b", "facts"): 0.7}
    forecaster = Forecaster.fit(items[items.variant != "w4b"], expected, CHANCE)
    assert forecaster.forecast("a", "w4b").probability.mean() == pytest.approx(0.7, abs=1e-6)


def test_items_without_margins_are_forecast_by_what_others_answered(items):
    known = {"a": {"bf16", "w4", "w3"}, "b": {"bf16", "w4", "w3"}}
    found = forecasts(items.assign(gap=np.nan), known)
    share = found.groupby(["model", "variant"]).score.transform("mean")
    assert brier(found, found.probability) < brier(found, share)


def test_what_is_missing_is_named(items):
    with pytest.raises(ForecastError, match="facts: no quantized variant was measured beside its original"):
        Forecaster.fit(items[items.variant == "bf16"], expected_of(items), CHANCE)
    forecaster = Forecaster.fit(items[items.model == "b"], expected_of(items), CHANCE)
    with pytest.raises(ForecastError, match="a: its original was not measured yet"):
        forecaster.forecast("a", "w4")


def test_the_gap_is_between_the_two_likeliest_choices():
    requests = pd.DataFrame({"task": "t", "document": [0, 0, 0, 1, 2, 2], "choice": [0, 1, 2, 0, 0, 1]})
    found = gaps(requests, pd.DataFrame({"log_likelihood": [-3.0, -1.0, -1.5, -2.0, np.nan, np.nan]}))
    assert found.to_dict("records") == [{"task": "t", "document": 0, "gap": 0.5}]


def test_the_gap_of_what_is_written_is_how_unlikely_another_token_is():
    requests = pd.DataFrame({"task": "t", "document": [0, 1, 2, 3], "choice": 0})
    answers = pd.DataFrame({"log_likelihood": [3 * np.log(0.9), np.log(0.2), 0.0, np.nan], "tokens": [3, 1, 2, 4]})
    found = gaps(requests, answers)
    assert found.document.tolist() == [0, 1, 2]  # of the last, what transformers wrote, nothing is known
    assert found.gap.tolist() == pytest.approx([np.log(10), np.log(1.25), np.log(1e6)], rel=1e-6)


def test_items_that_were_not_asked_have_no_gap():
    requests = pd.DataFrame({"task": "t", "document": [0, 0, 1, 1], "choice": [0, 1, 0, 1]})
    found = gaps(requests, pd.DataFrame({"log_likelihood": [-3.0, -1.0], "tokens": 0}, index=[2, 3]))
    assert found.to_dict("records") == [{"task": "t", "document": 1, "gap": 2.0}]


def test_what_is_written_is_forecast_in_its_own_units(items):
    """Gaps of written items are on another scale, and they go more often at the same gap."""
    random = np.random.default_rng(5)
    is_written = items.document % 2 == 0
    changed = items.assign(
        task=np.where(is_written, "writing", "choosing"),
        gap=items.gap.where(~is_written, 100 * items.gap),
        tokens=np.where(is_written, 3.0, np.nan),
    )
    goes = is_written & (items.variant != "bf16") & (random.random(len(items)) < 0.4)
    changed["score"] = changed.score.where(~goes, 0.0)
    known = {"a": {"bf16", "w4", "w3", "w2"}, "b": {"bf16", "w4b", "w3b", "w2"}}
    found, alike = forecasts(changed, known), forecasts(changed.assign(tokens=np.nan), known)
    assert brier(found, found.probability) < 0.97 * brier(alike, alike.probability)
    scaled = forecasts(changed.assign(gap=np.where(is_written, 7, 1) * changed.gap), known)
    assert scaled.probability.tolist() == pytest.approx(found.probability.tolist(), abs=1e-6)


def test_a_gap_that_is_not_known_moves_nothing(items):
    """As of texts that transformers generated, whose log-likelihood is missing."""
    known = {"a": {"bf16", "w4", "w3", "w2"}, "b": {"bf16", "w4", "w3", "w2"}}
    is_w3 = (items.model == "a") & (items.variant == "w3")
    found = forecasts(items.assign(gap=items.gap.mask(is_w3)), known)
    without = forecasts(items[~is_w3], known)
    both = found.merge(without, on=["model", "variant", "task", "document"], suffixes=("", "_without"))
    own = both[(both.model == "a") & (both.variant == "w3b")]
    assert len(own) and brier(own, own.probability) < 1.05 * brier(own, own.probability_without)
