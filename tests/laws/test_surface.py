import numpy as np
import pandas as pd
import pytest

from stratalaw.laws.simulation import paper_grid
from stratalaw.laws.surface import Surface, surface_rows, with_originals

DAMAGE = {"A": 0.25, "alpha": 0.1, "c": 1.3, "gamma": -0.1, "delta": 0.35}
STRATA = ("memorization", "application")
SHARE = 0.1


def table_of_study(seed: int, bumps: float = 0.0, n_items: int = 1000) -> pd.DataFrame:
    """Originals and variants by the anchored law; ``bumps``: what the law misses of each model, as a factor of D."""
    random = np.random.default_rng(seed)
    grid = paper_grid()
    parts = []
    for stratum in STRATA:
        originals = {size: random.uniform(0.5, 0.9) for size in grid.n_params.unique()}
        luck = {size: bumps * random.normal() for size in originals}
        table = grid.assign(stratum=stratum, benchmark=stratum, chance=0.25, n_items=n_items)
        size = np.log(table.n_params / 3e9)
        log_damage = (
            np.log(DAMAGE["A"])
            + DAMAGE["alpha"] * size
            - DAMAGE["c"] * (table.bits - 3)
            + DAMAGE["gamma"] * np.log(table.calibration_size / 128)
            + DAMAGE["delta"] * np.log(table.group_size / 64)
            + table.n_params.map(luck)
        )
        before = table.n_params.map(originals)
        true = 0.25 + 0.75 * before * np.exp(-np.exp(log_damage))
        first = pd.DataFrame(
            {"n_params": list(originals), "accuracy": [0.25 + 0.75 * a for a in originals.values()], "bits": 16.0}
        )
        parts += [
            table.assign(accuracy=random.binomial(n_items, true) / n_items, variant=table.index.astype(str)),
            first.assign(stratum=stratum, benchmark=stratum, chance=0.25, n_items=n_items, variant="bf16"),
        ]
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(model=whole.n_params.map("{:.3g}".format), family="one")


def split(rows: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a random part of the quantized variants with all originals, and the other rows."""
    names = rows.model + "/" + rows.variant
    quantized = names[rows.bits < 16].unique()
    chosen = np.random.default_rng(seed).permutation(quantized)[: round(share * len(quantized))]
    known = (rows.bits >= 16) | names.isin(chosen)
    return rows[known], rows[~known]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return surface_rows(table_of_study(seed=0, bumps=0.3))


def test_a_tenth_of_the_variants_tells_the_others_and_intervals_hold(rows):
    held = []
    for seed in range(3):
        known, others = split(rows, SHARE, seed)
        predicted = Surface.fit(known).predict(others)
        error = (predicted["mean"] - others.accuracy_adjusted).abs().mean()
        means = others.groupby(["stratum", "bits"]).accuracy_adjusted.transform("mean")
        assert error < 0.03 and error < (others.accuracy_adjusted - means).abs().mean() / 3
        inside = (predicted.low <= others.accuracy_adjusted) & (others.accuracy_adjusted <= predicted.high)
        held.append(inside.mean())
    assert min(held) > 0.85 and np.mean(held) > 0.92  # the cells of a study hang together


def test_no_variant_is_expected_above_its_original(rows):
    known, others = split(rows, SHARE, 0)
    predicted = Surface.fit(known).predict(others)
    assert (predicted["mean"] <= others.original).all() and (predicted["mean"] > 0).all()


def test_what_is_far_from_the_measured_is_less_sure(rows):
    known, _ = split(rows, SHARE, 0)
    surface = Surface.fit(known)
    near = known[known.bits == 3].iloc[:1]
    there, beyond = near, near.assign(n_params=near.n_params * 30, model="another", group_size=1024.0)
    assert surface.predict(beyond).half.iloc[0] > 2 * surface.predict(there).half.iloc[0]


def test_a_rough_stratum_gets_wider_intervals():
    table = table_of_study(seed=1)
    rough = (table.stratum == "application") & (table.bits < 8)
    random = np.random.default_rng(0)
    shaken = table.accuracy + rough * 0.06 * random.normal(size=len(table))
    rows = surface_rows(table.assign(accuracy=shaken.clip(0.2, 0.99)))
    known, others = split(rows, 0.4, 0)
    widths = Surface.fit(known).predict(others).eval("high - low").groupby(others.stratum).mean()
    assert widths["application"] > 1.5 * widths["memorization"]


def test_before_anything_is_measured_there_is_what_is_known_beforehand(rows):
    originals = rows[rows.bits >= 16]
    predicted = Surface.fit(originals).predict(rows[rows.bits.between(3, 4)])
    assert predicted.eval("high - low").mean() > 0.4
    by_bits = predicted["mean"].groupby(rows.bits).mean()
    assert by_bits[4] > by_bits[3]


def test_the_joint_belief_agrees_with_the_single_ones(rows):
    known, others = split(rows, SHARE, 0)
    surface, some = Surface.fit(known), others.iloc[::37]
    mean, covariance = surface.joint(some)
    predicted = surface.predict(some)
    assert np.allclose(mean, predicted["mean"], atol=0.02)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert np.corrcoef(np.sqrt(np.diag(covariance)), predicted.half)[0, 1] > 0.9


def test_the_original_of_another_table_is_the_models_own(rows):
    asked = rows[rows.bits < 16].drop(columns="original").iloc[:5]
    found = with_originals(asked, rows)
    own = rows[(rows.bits >= 16)].set_index(["model", "stratum"]).accuracy_adjusted
    assert list(found.original) == [own[row.model, row.stratum] for row in asked.itertuples()]
