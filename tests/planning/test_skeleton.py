"""What a selection keeps: every claim testable, by the tests of the claims themselves."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stratalaw.laws import read_observations
from stratalaw.laws.analysis import with_utilization
from stratalaw.laws.claims import CLAIMS
from stratalaw.laws.exponents import Panel
from stratalaw.laws.simulation import paper_grid
from stratalaw.laws.verdicts import CONTRADICTED, SUPPORTED, UNTESTABLE, estimate_of, judge, margins_of
from stratalaw.planning.skeleton import EXPONENTS, PHASE, skeleton

LADDER = Path(__file__).parents[2] / "docs" / "studies" / "first-ladder"
STRATA = {"memorization": 0.9, "application": 1.0, "reasoning": 1.2, "utilization": 1.1}


def candidates(settings: list[tuple[int, int, int]], models: int = 5) -> pd.DataFrame:
    parts = []
    for place in range(models):
        table = pd.DataFrame(settings, columns=["bits", "group_size", "calibration_size"])
        parts.append(table.assign(model=f"m{place}", n_params=1e9 * 2**place, seconds=1.0 + place, weakest=0.5))
    return pd.concat(parts, ignore_index=True)


def panel_of(variants: pd.DataFrame) -> Panel:
    """What measuring the variants would give, and the originals."""
    originals = variants.drop_duplicates("model").assign(bits=16, group_size=np.nan, calibration_size=np.nan)
    parts = []
    for stratum, c in STRATA.items():
        table = pd.concat([variants, originals]).assign(stratum=stratum, family="f", method="gptq", held_out=False)
        table["calibration_seed"] = np.where(table.bits < 16, 0.0, np.nan)
        damage = 0.3 * np.exp(-c * (table.bits - 3)) * (table.group_size / 64) ** 0.3 * table.calibration_size**-0.05
        level = np.exp(-0.5 * (table.n_params / 4e9) ** -0.3 - damage.fillna(0))
        parts.append(table.assign(accuracy_adjusted=level))
    return Panel.observed(pd.concat(parts, ignore_index=True))


FULL = list(product((2, 3, 4, 8), (16, 64, 128), (2, 8, 32, 128)))


@pytest.mark.parametrize(
    "settings",
    [
        FULL,
        # As in the paper, few calibration samples only with the largest groups, and 8 bits once.
        [s for s in FULL if s[0] < 8 and (s[1] == 128 or s[2] > 2)] + [(8, 128, 128)],
    ],
)
def test_every_claim_stays_testable_within_a_sixth_of_the_cost(settings):
    table = candidates(settings)
    budget = table.seconds.sum() / 6
    kept = skeleton(table, budget).kept
    assert table.seconds[kept].sum() <= budget
    verdicts = {verdict.claim: verdict for verdict in judge(panel_of(table[kept]), claims=CLAIMS)}
    assert [name for name, verdict in verdicts.items() if verdict.verdict == UNTESTABLE] == []
    assert verdicts["size"].models == table.model.nunique(), "all models share settings"


def test_a_contrast_costs_what_the_paper_grid_lets_it_cost():
    table = paper_grid()
    table = table.assign(seconds=table.n_params / 1e9, weakest=0.5)
    found = skeleton(table, 0.3 * table.seconds.sum())
    assert min(found.models.values()) >= 2
    assert found.reached.all()


def test_a_budget_that_does_not_buy_two_models_keeps_nothing_and_bars_nothing():
    found = skeleton(candidates(FULL), budget=2.0)
    assert not found.kept.any() and found.reached.all() and found.models == {}


def test_models_that_the_budget_does_not_reach_are_barred():
    table = candidates(FULL, models=4)
    table["seconds"] = table.model.map({"m0": 1.0, "m1": 1.0, "m2": 1.0, "m3": 1000.0})
    found = skeleton(table, budget=50.0)
    assert set(table.model[found.reached]) == {"m0", "m1", "m2"}


def test_a_study_of_one_setting_has_it_in_common():
    table = candidates([(4, 128, 128)])
    found = skeleton(table, budget=100.0)
    assert found.kept.all()


def test_three_models_have_a_contrast_before_any_has_it_twice():
    table = candidates(FULL, models=6).assign(seconds=1.0)
    for budget in (40, 60):
        found = skeleton(table, budget)
        assert min(found.models.values()) >= 3, "fewer decide no claim"
        kept = table[found.kept]
        two_bits = kept[kept.bits == 2].groupby("model").size()
        assert (two_bits == 1).all() or found.models[PHASE] == 6


def test_what_depends_on_where_it_is_measured_is_measured_in_different_places():
    table = candidates(FULL, models=4).assign(seconds=1.0)
    kept = table[skeleton(table, 44).kept]
    places = kept[kept.bits == 2].set_index("model")[["group_size", "calibration_size"]]
    assert set(places.itertuples(index=False, name=None)) == {(16, 128), (128, 2)}
    inner = kept[kept.calibration_size.isin([8, 32])].drop_duplicates(["model", "bits"])
    assert set(inner.bits) == {3, 8}, "the returns of calibration at low bits in some models, at high bits in others"


def test_models_with_something_to_lose_in_every_stratum_come_first():
    table = candidates(FULL, models=5).assign(seconds=1.0)
    table["weakest"] = np.where(table.model.isin(["m0", "m1"]), 0.1, 0.6)
    found = skeleton(table, 30)
    with_contrasts = table[found.kept].groupby("model").size()
    assert found.models[EXPONENTS] == 3
    assert set(with_contrasts[with_contrasts > 1].index) == {"m2", "m3", "m4"}


def ladder() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies of the published study, and its candidates."""
    accuracies = with_utilization(read_observations(LADDER / "observations.csv"))
    originals = accuracies[(accuracies.bits == 16) & accuracies.stratum.isin(STRATA)]
    variants = accuracies[(accuracies.stratum == "memorization") & (accuracies.bits < 16) & ~accuracies.held_out]
    seconds = pd.read_csv(LADDER / "seconds.csv")[["model", "variant", "seconds"]]
    weakest = originals.groupby("model").accuracy_adjusted.min().rename("weakest")
    return accuracies, variants.merge(seconds, on=["model", "variant"]).join(weakest, on="model")


@pytest.mark.parametrize(("share", "decides"), [(0.1, False), (0.2, True)])
def test_a_part_of_the_first_ladders_study_says_what_the_whole_says(share, decides):
    accuracies, table = ladder()
    kept = table[skeleton(table, share * table.seconds.sum()).kept]
    wanted = pd.MultiIndex.from_frame(kept[["model", "variant"]])
    chosen = pd.MultiIndex.from_frame(accuracies[["model", "variant"]]).isin(wanted) | (accuracies.bits == 16)
    whole, part = Panel.observed(accuracies), Panel.observed(accuracies[chosen])
    of_whole, of_part = margins_of(whole, CLAIMS)[0], margins_of(part, CLAIMS)[0]
    p_values = []
    for claim, found in of_part.items():
        for margin, same in zip(found, of_whole[claim], strict=True):
            own, expected = estimate_of(margin, part.models), estimate_of(same, whole.models)
            p_values.append(2 * stats.t.sf(abs(own.value - expected.value) / own.stderr, own.freedom))
    assert len(p_values) == sum(map(len, of_whole.values())), "every margin can be tested"
    # On the scale of a normal distribution: of few models a standard error may be next to nothing.
    assert np.sqrt(np.mean(np.square(stats.norm.isf(np.divide(p_values, 2))))) <= 1
    assert min(p_values) > 0.05, "no difference is beyond what the part's own standard error explains"
    decided = {v.claim: v.verdict for v in judge(whole) if v.verdict in (SUPPORTED, CONTRADICTED)}
    said = {v.claim: v.verdict for v in judge(part) if v.verdict in (SUPPORTED, CONTRADICTED)}
    assert said.items() <= decided.items() and bool(said) == decides
