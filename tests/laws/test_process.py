"""What is drawn from the process is found again."""

from dataclasses import replace

import numpy as np
import pytest

from stratalaw.laws.process import PRIOR_MEAN, Cells, Kernel, fit, response
from stratalaw.laws.simulation import paper_grid

SCALES = {"application": 0.4, "reasoning": 2.5}
VARIANCE = 1e-4


def drawn(seed: int) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Cells of the paper's grid, their accuracies with the noise of items, and those of their originals."""
    random = np.random.default_rng(seed)
    grid = paper_grid()
    factors = np.column_stack(
        [
            grid.bits - 3.0,
            np.log(grid.group_size / 64),
            np.log(grid.calibration_size / 128),
            np.log(grid.n_params / 3e9),
        ]
    )
    strata = np.repeat(sorted(SCALES), len(grid))
    twice = [np.tile(own.to_numpy(str), 2) for own in (grid.n_params, grid.index.to_series())]
    cells = Cells(np.tile(factors, (2, 1)), twice[0], np.full(len(strata), "one"), twice[1], strata)
    kernel = Kernel(
        np.concatenate([PRIOR_MEAN, np.log([SCALES[name] for name in sorted(SCALES)])]), tuple(sorted(SCALES))
    )
    f = random.multivariate_normal(cells.prior_mean(), kernel.covariance(cells, cells), method="eigh")
    original = np.full(len(cells), 0.7)
    return cells, response(f, original)[0] + random.normal(size=len(f)) * np.sqrt(VARIANCE * kernel.noise), original


def part(cells: Cells, chosen: np.ndarray) -> Cells:
    return Cells(*(getattr(cells, name)[chosen] for name in Cells.__dataclass_fields__))


@pytest.mark.parametrize("seed", range(2))
def test_how_much_rougher_one_stratum_is_than_another_is_found_from_a_fifth_of_the_variants(seed):
    cells, accuracy, original = drawn(seed)
    variants = np.unique(cells.variant)
    chosen = np.isin(cells.variant, np.random.default_rng(seed).permutation(variants)[: len(variants) // 5])
    found = fit(part(cells, chosen), accuracy[chosen], original[chosen], np.full(chosen.sum(), VARIANCE), 1000)
    scale = dict(zip(found.kernel.strata, np.exp(found.kernel.theta[-2:]), strict=True))
    assert 2 < scale["reasoning"] / scale["application"] < 18  # drawn with 6.25
    _, variance = found.mean_and_variance(part(cells, ~chosen))
    spread = {name: np.sqrt(variance[cells.stratum[~chosen] == name]).mean() for name in SCALES}
    assert spread["reasoning"] > 2 * spread["application"]


def test_strata_may_be_called_as_hyperparameters_are():
    cells, accuracy, original = drawn(0)
    every = np.arange(0, len(cells), 8)
    names = dict(zip(sorted(SCALES), ("model", "noise"), strict=True))
    renamed = replace(cells, stratum=np.array([names[name] for name in cells.stratum]))
    found, same = (
        fit(part(one, every), accuracy[every], original[every], np.full(len(every), VARIANCE), 1000)
        for one in (cells, renamed)
    )
    assert same.kernel.strata == ("model", "noise")
    assert np.allclose(found.kernel.theta, same.kernel.theta)


def test_a_stratum_that_was_not_measured_has_a_scale_of_one():
    cells, *_ = drawn(0)
    first = part(cells, np.arange(1))
    kernel = Kernel(np.concatenate([PRIOR_MEAN, [1.0]]), ("reasoning",))
    alone = Kernel(PRIOR_MEAN, ())
    assert kernel.variance(first) == alone.variance(first)
    assert np.allclose(np.diag(kernel.covariance(cells, cells)), kernel.variance(cells))
