"""A Gaussian process of the damage of quantization over variants, models and strata.

The latent value f = ln D of a cell (a variant in a stratum) is seen through the anchored law's response: the adjusted
accuracy is a16 exp(-D), plus the noise of the items. Its prior is that law, f linear in bits, ln G, ln C and ln N, and
on top of it deviations of each model, deviations that are smooth over all four, and what a single variant has by luck;
each is shared between the strata in part, and larger in some of them than in others. The posterior is Laplace's
approximation (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2, 3 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

Array = NDArray[np.float64]

FACTORS = ("bits", "group_size", "calibration_size", "n_params")
# What is known before anything is measured, as wide as what studies and published tables differ by: mean and standard
# deviation of f at 3 bits, groups of 64 and 128 samples, and of its slopes by a bit and by logarithms of the others.
LEVEL = (-1.3, 1.0)
SLOPES = ((-1.2, 0.8), (0.35, 0.3), (-0.1, 0.15), (-0.25, 0.4))  # the last, of sizes, is that of published numbers
SHARED_LEVEL = 0.8  # correlation of the linear part between two strata
BETWEEN_MODELS, BETWEEN_FAMILIES = 0.8, 0.5  # correlation of the smooth part at one size; of families, times this
# Medians of the hyperparameters, and standard deviations of their logarithms; ``share`` is a logit. ``model``,
# ``smooth`` and ``luck`` are standard deviations of f, ``noise`` is the part of the items' variance that a variant does
# not share with others (variants answer the same items).
PRIOR: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "model": (0.3, 0.7),
        "smooth": (0.4, 0.7),
        "bits": (1.0, 0.5),
        "group_size": (2.0, 0.7),
        "calibration_size": (3.0, 0.7),
        "n_params": (1.0, 0.7),
        "luck": (0.1, 0.7),
        "share": (1.0, 1.0),
        "noise": (0.5, 0.5),
    }
)
PRIOR_MEAN = np.log([median for median, _ in PRIOR.values()])
PRIOR_SPREAD = np.array([spread for _, spread in PRIOR.values()])
SCALE_SPREAD = 0.5  # of the logarithm of a stratum's scale
LEAST_VARIANCE = 1e-5  # of a measured adjusted accuracy
LEAST_SLOPE = 1e-4  # of the response, below which a cell tells nothing of f
ROUNDS = 4  # linearized anew each time
LARGEST_STEP = 1.5
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclass(frozen=True)
class Cells:
    """Variants in strata.

    ``factors``: shape (cells, 4), in the order of ``FACTORS``: bits, and logarithms of the others, each less that of a
    reference; the others are names, of which a variant's includes its model's.
    """

    factors: Array
    model: NDArray[np.str_]
    family: NDArray[np.str_]
    variant: NDArray[np.str_]
    stratum: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.factors)

    def prior_mean(self) -> Array:
        mean: Array = LEVEL[0] + self.factors @ np.array([slope for slope, _ in SLOPES])
        return mean

    def linear(self) -> Array:
        """Regressors in units of their prior standard deviations, shape (cells, 5)."""
        return np.column_stack([np.full(len(self), LEVEL[1]), self.factors * [spread for _, spread in SLOPES]])


def response(f: Array, original: Array) -> tuple[Array, Array]:
    """Adjusted accuracy at latent values, and its derivative by them."""
    damage = np.exp(np.clip(f, -30, 5))
    accuracy = original * np.exp(-damage)
    return accuracy, -accuracy * damage


def moments(f: Array, spread: Array, original: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the adjusted accuracy where f is normal with a spread."""
    values = np.array([response(f + node * spread, original)[0] for node in NODES])
    mean = WEIGHTS @ values
    return mean, np.sqrt(np.maximum(WEIGHTS @ (values - mean) ** 2, 1e-12))


@dataclass(frozen=True)
class Kernel:
    """The prior covariance of f at one value of the hyperparameters.

    ``theta``: their logarithms, in the order of ``PRIOR``, and after them those of the scales of ``strata``, by which
    deviations from the linear part are larger in one stratum than in another. Any other stratum has a scale of 1.
    """

    theta: Array
    strata: tuple[str, ...]

    @classmethod
    def at_medians(cls, cells: Cells) -> Kernel:
        """What is assumed, before anything is measured, of the strata that cells are in."""
        strata = tuple(np.unique(cells.stratum).tolist())
        return cls(np.concatenate([PRIOR_MEAN, np.zeros(len(strata))]), strata)

    def at(self, theta: Array) -> Kernel:
        return replace(self, theta=theta)

    @property
    def noise(self) -> float:
        """The part of the items' variance that a variant has by itself."""
        return self._values["noise"]

    @property
    def medians(self) -> Array:
        return np.concatenate([PRIOR_MEAN, np.zeros(len(self.strata))])

    @property
    def spread(self) -> Array:
        """Standard deviations of ``theta``, before anything is measured."""
        return np.concatenate([PRIOR_SPREAD, np.full(len(self.strata), SCALE_SPREAD)])

    def variance(self, cells: Cells) -> Array:
        """The diagonal of ``covariance`` of cells with themselves."""
        value = self._values
        deviations = sum(value[name] ** 2 for name in ("model", "smooth", "luck"))
        found: Array = (cells.linear() ** 2).sum(1) + deviations * self._scales(cells) ** 2
        return found

    def covariance(self, left: Cells, right: Cells) -> Array:
        """Prior covariance of f, shape (left, right)."""
        return self._covariance(left, right)[0]

    def slopes(self, cells: Cells) -> tuple[Array, dict[str, Array], list[Array]]:
        """``covariance`` of cells with themselves, and its derivatives by hyperparameters, by name (of ``noise`` there
        is none), and by the scales of the strata, in their order."""
        return self._covariance(cells, cells, slopes=True)

    @property
    def _values(self) -> dict[str, float]:
        return dict(zip(PRIOR, np.exp(self.theta[: len(PRIOR)]).tolist(), strict=True))

    def _scales(self, cells: Cells) -> Array:
        scales = dict(zip(self.strata, np.exp(self.theta[len(PRIOR) :]).tolist(), strict=True))
        return np.array([scales.get(stratum, 1.0) for stratum in cells.stratum.tolist()])

    def _covariance(
        self, left: Cells, right: Cells, slopes: bool = False
    ) -> tuple[Array, dict[str, Array], list[Array]]:
        value = self._values
        shared = value["share"] / (1 + value["share"])
        same = left.stratum[:, None] == right.stratum
        scale = self._scales(left)[:, None] * self._scales(right)
        mix = scale * np.where(same, 1.0, shared)
        lengths = [value[name] for name in FACTORS]
        distance = [
            np.abs(left.factors[:, None, i] - right.factors[None, :, i]) / lengths[i] for i in range(len(FACTORS))
        ]
        smooth = np.where(left.family[:, None] == right.family, 1.0, BETWEEN_FAMILIES)
        for part in distance:
            smooth = smooth * _matern(part)
        smooth = smooth * np.where(left.model[:, None] == right.model, 1.0, BETWEEN_MODELS)
        smooth = value["smooth"] ** 2 * smooth
        by_model = value["model"] ** 2 * (left.model[:, None] == right.model)
        by_luck = value["luck"] ** 2 * (left.variant[:, None] == right.variant)
        deviations = by_model + smooth + by_luck
        linear = left.linear() @ right.linear().T * np.where(same, 1.0, SHARED_LEVEL)
        total = linear + deviations * mix
        if not slopes:
            return total, {}, []
        found = {
            "model": 2 * by_model * mix,
            "smooth": 2 * smooth * mix,
            "luck": 2 * by_luck * mix,
            "share": deviations * scale * np.where(same, 0.0, shared * (1 - shared)),
        }
        for name, part in zip(FACTORS, distance, strict=True):
            found[name] = smooth * mix * _matern_slope(part)
        of_scales = []
        for stratum in self.strata:
            of_left, of_right = ((cells.stratum == stratum).astype(float) for cells in (left, right))
            of_scales.append(deviations * mix * (of_left[:, None] + of_right))
        return total, found, of_scales


def _matern(distance: Array) -> Array:
    """The Matérn correlation of smoothness 5/2."""
    r = np.sqrt(5) * distance
    found: Array = (1 + r + r**2 / 3) * np.exp(-r)
    return found


def _matern_slope(distance: Array) -> Array:
    """Derivative of ln of ``_matern`` by the logarithm of its length."""
    r = np.sqrt(5) * distance
    found: Array = (r**2 * (1 + r) / 3) / (1 + r + r**2 / 3)
    return found


@dataclass(frozen=True)
class Posterior:
    """What measured cells say of f, at one value of the hyperparameters.

    ``kernel``: the prior covariance at that value; ``cells``, ``accuracy``, ``original``, ``variance``: what was
    measured, the variance being that of the items; ``f``: the mode; ``weights``, ``root``: of the approximation.
    """

    kernel: Kernel
    cells: Cells
    accuracy: Array
    original: Array
    variance: Array
    f: Array
    weights: Array
    root: tuple[Array, bool]

    @property
    def _precision(self) -> Array:
        slope = response(self.f, self.original)[1]
        found: Array = slope**2 / (self.kernel.noise * self.variance + LEAST_VARIANCE)
        return found

    def mean_and_variance(self, cells: Cells) -> tuple[Array, Array]:
        """Posterior mean and variance of f, one by one."""
        mean, explained = self._explained(cells)
        variance = self.kernel.variance(cells) - (explained**2).sum(0)
        return mean, np.maximum(variance, 1e-9)

    def mean_and_covariance(self, cells: Cells) -> tuple[Array, Array]:
        """Posterior mean and covariance of f."""
        mean, explained = self._explained(cells)
        return mean, self.kernel.covariance(cells, cells) - explained.T @ explained

    def _explained(self, cells: Cells) -> tuple[Array, Array]:
        between = self.kernel.covariance(cells, self.cells)
        root = np.sqrt(self._precision)
        explained = linalg.solve_triangular(self.root[0], (between * root).T, lower=True)
        mean: Array = cells.prior_mean() + between @ self.weights
        return mean, explained

    def at(self, theta: Array) -> Posterior:
        """The posterior at other hyperparameters."""
        return _posterior(self.kernel.at(theta), self.cells, self.accuracy, self.original, self.variance, self.f)

    def left_out(self, of: NDArray[np.str_], one_by_one: bool) -> Array:
        """Squared errors of cells in units of their predicted variance, those of one name left out in turn.

        Args:
            of: the names of the cells, such as those of their variants.
            one_by_one: of cells as they are, which hang together; otherwise of the uncorrelated combinations of those
                of one name that are nearest to them, among which the few in which names differ most count no more than
                any other.
        """
        value, slope = response(self.f, self.original)
        slope = np.where(np.abs(slope) < LEAST_SLOPE, -LEAST_SLOPE, slope)
        centred = self.f + (self.accuracy - value) / slope - self.cells.prior_mean()
        noise = (self.kernel.noise * self.variance + LEAST_VARIANCE) / slope**2
        inverse = linalg.inv(self.kernel.covariance(self.cells, self.cells) + np.diag(noise))
        weights = inverse @ centred
        found = np.empty(len(centred))
        for name in np.unique(of):
            own = np.flatnonzero(of == name)
            # B^(-1) w is the error, and B^(-1) its variance.
            values, axes = np.linalg.eigh(inverse[np.ix_(own, own)])
            if one_by_one:
                error, variance = axes @ (axes.T @ weights[own] / values), (axes**2 / values).sum(1)
                found[own] = error**2 / variance
            else:
                found[own] = (axes @ (axes.T @ weights[own] / np.sqrt(values))) ** 2
        return found

    def around(self) -> list[Posterior]:
        """Posteriors at hyperparameters around their mode, which stand for how unsure these are.

        Two for each axis of the curvature there, as far out as makes their mean and covariance right (the points of
        the unscented transform).
        """
        theta, medians, spread = self.kernel.theta, self.kernel.medians, self.kernel.spread
        curvature = np.array(
            [(self._loss(theta + step)[1] - self._loss(theta - step)[1]) / 0.2 for step in 0.1 * np.eye(len(theta))]
        )
        values, axes = np.linalg.eigh((curvature + curvature.T) / 2)
        lengths = np.sqrt(len(theta) / np.maximum(values, 1 / spread.max() ** 2))
        least, most = medians - 3 * spread, medians + 3 * spread
        return [self.at(np.clip(theta + sign * step, least, most)) for step in (axes * lengths).T for sign in (1, -1)]

    def _loss(self, theta: Array) -> tuple[float, Array]:
        """Minus the logarithm of the posterior of hyperparameters, linearized at the mode of f, and its gradient."""
        value, slope = response(self.f, self.original)
        slope = np.where(np.abs(slope) < LEAST_SLOPE, -LEAST_SLOPE, slope)
        centred = self.f + (self.accuracy - value) / slope - self.cells.prior_mean()
        kernel = self.kernel.at(theta)
        total, parts, of_scales = kernel.slopes(self.cells)
        noise = kernel.noise * self.variance
        factor = linalg.cho_factor(total + np.diag((noise + LEAST_VARIANCE) / slope**2 + 1e-8), lower=True)
        weights = linalg.cho_solve(factor, centred)
        inverse = linalg.cho_solve(factor, np.eye(len(centred)))
        distance = (theta - kernel.medians) / kernel.spread
        loss = centred @ weights / 2 + np.log(np.diag(factor[0])).sum() + distance @ distance / 2
        surplus = inverse - np.outer(weights, weights)
        of_noise = (np.diag(surplus) * noise / slope**2).sum() / 2
        gradient = [of_noise if name == "noise" else (surplus * parts[name]).sum() / 2 for name in PRIOR]
        gradient += [(surplus * part).sum() / 2 for part in of_scales]
        return float(loss), np.array(gradient) + distance / kernel.spread


def prior(cells: Cells) -> Posterior:
    """What is known before anything is measured; ``cells`` gives only the kind of names."""
    nothing = np.empty(0)
    none = replace(
        cells,
        factors=cells.factors[:0],
        model=cells.model[:0],
        family=cells.family[:0],
        variant=cells.variant[:0],
        stratum=cells.stratum[:0],
    )
    return Posterior(
        Kernel.at_medians(cells), none, nothing, nothing, nothing, nothing, nothing, (np.empty((0, 0)), True)
    )


def fit(cells: Cells, accuracy: Array, original: Array, variance: Array, most_rows: int) -> Posterior:
    """The posterior at the most probable hyperparameters.

    Args:
        cells: what was measured.
        accuracy: adjusted for chance.
        original: that of each one's own original, more than 0.
        variance: of the accuracy, by its items, paired with the original's.
        most_rows: cells from which hyperparameters are found, drawn at random where there are more.
    """
    start = np.log(-np.log(np.clip(accuracy / original, 0.05, 0.97)))
    chosen = np.sort(np.random.default_rng(0).permutation(len(cells))[:most_rows])
    part = Cells(*(getattr(cells, name)[chosen] for name in Cells.__dataclass_fields__))
    kernel = Kernel.at_medians(cells)
    found = _posterior(kernel, part, accuracy[chosen], original[chosen], variance[chosen], start[chosen])
    for _ in range(ROUNDS):
        best = optimize.minimize(found._loss, found.kernel.theta, jac=True, method="L-BFGS-B", options={"maxiter": 40})
        found = found.at(best.x)
    if len(part) == len(cells):
        return found
    return _posterior(found.kernel, cells, accuracy, original, variance, start)


def _posterior(
    kernel: Kernel, cells: Cells, accuracy: Array, original: Array, variance: Array, start: Array
) -> Posterior:
    """Laplace's approximation, by Gauss and Newton."""
    prior_mean = cells.prior_mean()
    total = kernel.covariance(cells, cells) + 1e-8 * np.eye(len(cells))
    noise = kernel.noise * variance + LEAST_VARIANCE
    f = start
    for _ in range(30):
        value, slope = response(f, original)
        precision = slope**2 / noise
        root = np.sqrt(precision)
        factor = linalg.cho_factor(np.eye(len(cells)) + root[:, None] * total * root, lower=True)
        pull = precision * (f - prior_mean) + slope * (accuracy - value) / noise
        weights = pull - root * linalg.cho_solve(factor, root * (total @ pull))
        step = prior_mean + total @ weights - f
        largest = float(np.abs(step).max(initial=0.0))
        if largest < 1e-4:
            break
        f = f + step * min(1.0, LARGEST_STEP / largest)
    return Posterior(kernel, cells, accuracy, original, variance, f, weights, factor)
