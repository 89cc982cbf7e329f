"""What a selection keeps: every claim testable, by the tests of the claims themselves."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws.claims import CLAIMS
from stratalaw.laws.exponents import Panel
from stratalaw.laws.simulation import paper_grid
from stratalaw.laws.verdicts import UNTESTABLE, judge
from stratalaw.planning.skeleton import skeleton

STRATA = {"memorization": 0.9, "application": 1.0, "reasoning": 1.2, "utilization": 1.1}


def candidates(settings: list[tuple[int, int, int]], models: int = 5) -> pd.DataFrame:
    parts = []
    for place in range(models):
        table = pd.DataFrame(settings, columns=["bits", "group_size", "calibration_size"])
        parts.append(table.assign(model=f"m{place}", n_params=1e9 * 2**place, seconds=1.0 + place))
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
    table = table.assign(seconds=table.n_params / 1e9)
    found = skeleton(table, 0.3 * table.seconds.sum())
    assert min(found.models.values()) >= 2
    assert found.reached.all()


def test_a_budget_that_does_not_buy_two_models_keeps_nothing_and_bars_nothing():
    found = skeleton(candidates(FULL), budget=3.0)
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
