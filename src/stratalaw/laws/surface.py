"""The surface of a study: what every variant would score, from those that were measured, with intervals that hold.

The anchored law is its mean; a Gaussian process takes up what the law misses (``process``). Intervals are for what
measuring a variant would give, its items' noise included. They are Student's, with as many degrees of freedom as there
are measured variants, less one, and hyperparameters are averaged over, not taken at their best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from stratalaw.laws import process
from stratalaw.laws.process import Cells, Posterior, moments, response
from stratalaw.laws.table import WHOLE_ROW, check_observations
from stratalaw.study.variants import BASELINE_BITS

FEWEST = 3  # variants from which a surface is fitted
ABOUT = ("model", "family", "n_params", "variant", "bits", "group_size", "calibration_size")
CENTRE = {"bits": 3.0, "group_size": 64.0, "calibration_size": 128.0}
LARGEST_GROUP = 1024.0  # of a grid; a whole row counts as one
UNSHARED = 0.3  # of the variance of an accuracy, where a table does not say what remains of it beside the original's
LEAST_ORIGINAL = 0.02  # adjusted accuracy of an original with something to lose
MOST_VARIANTS = 500  # that a surface rests on: time grows with the cube of it
AT_ONCE = 2000  # cells that are predicted at a time, which bounds the memory
MOST_TO_LEARN = 450  # cells from which hyperparameters are found, and up to which these are averaged over
PRIOR_CELLS = 10  # as if so many cells of a stratum had been as rough as the process expects
MEASURED, PREDICTED = "measured", "predicted"


def surface_rows(observations: pd.DataFrame) -> pd.DataFrame:
    """Of each variant in each stratum: the columns of ``ABOUT``, stratum, accuracy_adjusted, chance, n_items, stderr
    (of the adjusted accuracy), variance (by its items, paired with the original's) and original (the adjusted accuracy
    of the model's own, missing where it was not measured).

    Raises:
        TableError: of ``check_observations``.
    """
    table = check_observations(observations)
    scale = 1 - table.chance
    table["accuracy_adjusted"] = (table.accuracy - table.chance) / scale
    table["own_variance"] = (table.stderr / scale) ** 2
    table["variance"] = UNSHARED * table.own_variance
    if "paired_stderr" in observations:
        paired = pd.to_numeric(observations.paired_stderr.reset_index(drop=True), errors="coerce")
        table["variance"] = ((paired / scale) ** 2).fillna(table.variance)
    grouped = table.groupby([*ABOUT, "stratum"], sort=False, dropna=False)
    found = grouped[["accuracy_adjusted", "chance"]].mean()
    for name in ("variance", "own_variance"):
        found[name] = grouped[name].sum(min_count=1) / grouped.size() ** 2
    found["n_items"] = grouped.n_items.sum(min_count=1)
    rows = found.reset_index().rename(columns={"own_variance": "stderr"})
    rows["stderr"] = np.sqrt(rows.stderr)
    return with_originals(rows)


def with_originals(rows: pd.DataFrame, measured: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows with ``original``, the adjusted accuracy of the model's own original in ``measured`` (in ``rows``)."""
    source = rows if measured is None else measured
    originals = source[source.bits >= BASELINE_BITS].groupby(["model", "stratum"]).accuracy_adjusted.mean()
    own = originals.reindex(pd.MultiIndex.from_frame(rows[["model", "stratum"]]))
    return rows.assign(original=own.to_numpy())


@dataclass(frozen=True)
class Surface:
    """What was measured of a study, and what follows for the rest.

    ``posteriors``: of the process, at hyperparameters that stand for how unsure these are; the first is the mode.
    ``rows``: measured and quantized, as ``surface_rows`` gives them; ``noise``: the items' variance as a line over the
    loss of adjusted accuracy, slope and intercept; ``reference``: ln N to which sizes are relative; ``roughness``: by
    stratum, the factor of standard deviations, at least 1, that measured variants, each left out in turn, ask for;
    ``of_new``: that of a model of which nothing was measured, which models left out in turn ask for.
    """

    posteriors: list[Posterior]
    rows: pd.DataFrame
    noise: tuple[float, float]
    reference: float
    roughness: dict[str, float]
    of_new: dict[str, float]

    @classmethod
    def fit(cls, measured: pd.DataFrame, reference_size: float | None = None) -> Surface:
        """The surface of measured rows (see ``surface_rows``).

        With fewer than three quantized variants, it is what is known beforehand.

        Args:
            measured: the rows, originals among them.
            reference_size: to which sizes are relative; the geometric mean of the models' if not given.
        """
        sizes = measured.groupby("model").n_params.first() if len(measured) else pd.Series([1e9])
        reference = float(np.log(reference_size or np.exp(np.log(sizes).mean())))
        usable = (measured.bits < BASELINE_BITS) & (measured.original > LEAST_ORIGINAL)
        rows = thinned(measured[usable].reset_index(drop=True))
        noise = noise_line(rows)
        cells = cells_of(rows, reference)
        if rows[["model", "variant"]].drop_duplicates().shape[0] < FEWEST:
            return cls([process.prior(cells)], rows[:0], noise, reference, {}, {})
        accuracy, original = rows.accuracy_adjusted.to_numpy(float), rows.original.to_numpy(float)
        variance = rows.variance.fillna(noise[1]).to_numpy(float)
        mode = process.fit(cells, accuracy, original, variance, MOST_TO_LEARN)
        others = mode.around() if len(rows) <= MOST_TO_LEARN else []
        of_variants = _factors(mode.left_out(cells.variant, one_by_one=False), rows.stratum)
        of_models = _factors(mode.left_out(cells.model, one_by_one=True), rows.stratum)
        return cls([mode, *others], rows, noise, reference, of_variants, of_models)

    @property
    def variants(self) -> int:
        """Measured variants that the surface rests on."""
        return int(self.rows[["model", "variant"]].drop_duplicates().shape[0])

    def quantile(self, level: float) -> float:
        if not self.variants:  # nothing but what is known beforehand, which is known as it is
            return float(stats.norm.ppf((1 + level) / 2))
        return float(stats.t.ppf((1 + level) / 2, self.variants - 1))

    def latent(self, table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of ln D, the hyperparameters averaged over."""
        parts = [table.iloc[place : place + AT_ONCE] for place in range(0, len(table), AT_ONCE)] or [table]
        mean, variance = (np.concatenate(found) for found in zip(*map(self._averaged, parts), strict=True))
        return mean, np.sqrt(variance) * self._roughness(table)

    def _averaged(self, table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of ln D over the hyperparameters."""
        cells = cells_of(table, self.reference)
        found = [posterior.mean_and_variance(cells) for posterior in self.posteriors[1:] or self.posteriors]
        means, variances = (np.array(part) for part in zip(*found, strict=True))
        return means.mean(0), variances.mean(0) + means.var(0)

    def _roughness(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Factors of standard deviations. Of a new model the larger of both, and more, since a spread between few
        models is found too small (Bessel's correction)."""
        stratum = table.stratum.astype(str)
        of_measured = stratum.map(self.roughness).fillna(1.0).to_numpy(float)
        models = max(self.rows.model.nunique(), 2)
        of_new = np.maximum(of_measured, stratum.map(self.of_new).fillna(1.0).to_numpy(float))
        is_new = ~table.model.isin(self.rows.model).to_numpy(bool) & bool(self.variants)
        factors: NDArray[np.float64] = np.where(is_new, of_new * np.sqrt(models / (models - 1)), of_measured)
        return factors

    def items_variance(self, loss: NDArray[np.float64]) -> NDArray[np.float64]:
        """The items' own part of the variance of an adjusted accuracy, by what was lost."""
        slope, intercept = self.noise
        part = np.mean([posterior.kernel.noise for posterior in self.posteriors])
        found: NDArray[np.float64] = part * np.maximum(intercept + slope * np.maximum(loss, 0), process.LEAST_VARIANCE)
        return found

    def predict(self, table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
        """Adjusted accuracies that measuring would give: mean, low, high, and half, half the width of the interval
        without the items' noise.

        Args:
            table: the columns of ``ABOUT``, stratum, and original, the adjusted accuracy of each one's own.
            level: of the intervals.
        """
        original = np.maximum(table.original.to_numpy(float), LEAST_ORIGINAL)
        f, spread = self.latent(table)
        mean, _ = moments(f, spread, original)
        quantile = self.quantile(level)
        middle, least, most = (response(f + sign * quantile * spread, original)[0] for sign in (0, 1, -1))
        noise = quantile**2 * self.items_variance(original - mean) * self._roughness(table) ** 2
        low = middle - np.sqrt((middle - least) ** 2 + noise)
        high = middle + np.sqrt((most - middle) ** 2 + noise)
        return pd.DataFrame({"mean": mean, "low": low, "high": high, "half": (most - least) / 2}, index=table.index)

    def joint(self, table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and covariance of the adjusted accuracies of cells, to first order with slopes that are right for the
        spread of each; spreads are those of ``latent``, correlations those at the most probable hyperparameters."""
        original = np.maximum(table.original.to_numpy(float), LEAST_ORIGINAL)
        f, spread = self.latent(table)
        between = self.posteriors[0].mean_and_covariance(cells_of(table, self.reference))[1]
        single = np.sqrt(np.maximum(np.diag(between), 1e-9))
        mean, deviation = moments(f, spread, original)
        slope = deviation / single
        return mean, between * slope[:, None] * slope


def _factors(missed: NDArray[np.float64], strata: pd.Series) -> dict[str, float]:
    """Factors of standard deviations by stratum, from squared errors in units of their variance; at least 1, since what
    was measured is what was least sure."""
    of_stratum = pd.Series(missed).groupby(strata)
    excess = (PRIOR_CELLS + of_stratum.sum()) / (PRIOR_CELLS + of_stratum.count())
    return {str(name): float(np.sqrt(max(value, 1.0))) for name, value in excess.items()}


def thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of as many variants as a surface can rest on, drawn at random where there are more."""
    names = rows.model.astype(str) + "/" + rows.variant.astype(str)
    distinct = names.unique()
    if len(distinct) <= MOST_VARIANTS:
        return rows
    kept = np.random.default_rng(0).permutation(distinct)[:MOST_VARIANTS]
    return rows[names.isin(kept)].reset_index(drop=True)


def noise_line(rows: pd.DataFrame) -> tuple[float, float]:
    """Slope and intercept of the items' variance over the loss of adjusted accuracy, both of them not negative; what a
    thousand items have, where no row tells."""
    known = rows[rows.variance.notna()]
    if len(known) < FEWEST:
        return 0.0007, 0.00005
    loss = (known.original - known.accuracy_adjusted).clip(lower=0).to_numpy(float)
    variance = known.variance.to_numpy(float)
    slope, intercept = np.linalg.lstsq(np.column_stack([loss, np.ones(len(loss))]), variance, rcond=None)[0]
    if slope < 0:
        return 0.0, float(variance.mean())
    return float(slope), max(float(intercept), 0.0)


def cells_of(table: pd.DataFrame, reference: float) -> Cells:
    """The cells of the process; a factor that is missing counts as the centre of the prior."""
    group = table.group_size.astype(float).mask(table.group_size == WHOLE_ROW, LARGEST_GROUP)
    samples = table.calibration_size.astype(float).fillna(CENTRE["calibration_size"])
    columns = [
        table.bits.to_numpy(float) - CENTRE["bits"],
        np.log(group.fillna(CENTRE["group_size"]).to_numpy(float) / CENTRE["group_size"]),
        np.log(samples.to_numpy(float) / CENTRE["calibration_size"]),
        np.log(table.n_params.to_numpy(float)) - reference,
    ]
    model = table.model.to_numpy(str)
    variant = np.array([f"{model}/{name}" for model, name in zip(table.model, table.variant, strict=True)], dtype=str)
    names = (table.family.to_numpy(str), variant, table.stratum.to_numpy(str))
    return Cells(np.column_stack(columns), model, *names)
