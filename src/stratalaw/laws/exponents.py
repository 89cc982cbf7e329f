"""Exponents of each model by itself, on two scales, and what they say of models like these.

``damage``: D = -ln(a / a16), what quantization took of the model's own original; log D is linear in bits (slope -c),
log C (gamma) and log G (delta). ``accuracy``: the paper's -ln a, a power of log2 B (beta), log2 C (gamma) and G
(delta), which also holds the floor of the model.

Rows of one model share everything that a law misses of it. An estimate for each model, and Student's t over models,
needs no assumption on that, and holds its level with a handful of models of unequal variance (Ibragimov and Müller,
2010, Journal of Business & Economic Statistics 28:453).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from stratalaw.laws.forms import DAMAGE_PARAMETERS, FACTORS, PAPER_LAW, Form, form_named
from stratalaw.laws.gauss_newton import solve
from stratalaw.laws.rows import PHASE_TRANSITION_BITS, reasons_to_leave_out
from stratalaw.study.variants import BASELINE_BITS

NEXT_TO_NOTHING = 0.02  # of adjusted accuracy: an original with less has nothing that could be lost
LEAST_DAMAGE = 2e-3  # at the lowest bits; with less there is nothing to explain
LARGEST_EXPONENT = 20.0
STARTS = 4
DAMAGE, ACCURACY = "damage", "accuracy"
OF_MODELS = {DAMAGE: ("c", "gamma", "delta"), ACCURACY: ("beta", "gamma", "delta")}
FACTOR_OF = {"c": "B", "beta": "B", "gamma": "C", "delta": "G"}


Settings = tuple[NDArray[np.bool_], dict[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class Panel:
    """Rows of the models that are fitted, originals and 2 bits included, with one or many draws of their accuracies.

    ``tables``: by stratum, as ``rows.stratum_accuracies`` gives them; ``accuracy``: adjusted accuracies by stratum,
    shape (draws, rows of the table).
    """

    tables: Mapping[str, pd.DataFrame]
    accuracy: Mapping[str, NDArray[np.float64]]
    _known: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _settings: dict[tuple[str, str], Settings] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def observed(cls, accuracies: pd.DataFrame) -> Panel:
        """The panel of a table of all strata, with the accuracies as they were observed."""
        fitted = accuracies[~accuracies.held_out.astype(bool)]
        tables = {str(name): part.reset_index(drop=True) for name, part in fitted.groupby("stratum", sort=False)}
        return cls(tables, {name: table.accuracy_adjusted.to_numpy(float)[None] for name, table in tables.items()})

    @cached_property
    def models(self) -> pd.DataFrame:
        """model, family and n_params of all models, in the order of the table."""
        together = pd.concat([table[["model", "family", "n_params"]] for table in self.tables.values()])
        return together.drop_duplicates("model", ignore_index=True)

    def rows_of(self, stratum: str, model: str) -> tuple[pd.DataFrame, NDArray[np.float64]]:
        """The rows of a model in a stratum, and their accuracies, shape (draws, rows)."""
        chosen = (self.tables[stratum].model == model).to_numpy()
        return self.tables[stratum][chosen], self.accuracy[stratum][:, chosen]

    def settings_of(self, stratum: str, model: str) -> Settings:
        """Which rows of a model are fitted, and their bits, calibration sizes and group sizes by symbol."""
        if (stratum, model) not in self._settings:
            table, _ = self.rows_of(stratum, model)
            used = (reasons_to_leave_out(table.assign(held_out=False), keep_collapsed=True) == "").to_numpy()
            factors = {name: table[column].to_numpy(float)[used] for name, column in FACTORS.items() if name in "BCG"}
            self._settings[stratum, model] = used, factors
        return self._settings[stratum, model]

    @property
    def draws(self) -> int:
        return next(iter(self.accuracy.values())).shape[0]


def original(table: pd.DataFrame, accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy of a model's own original in each draw, shape (draws,); not a number where it was not measured."""
    chosen = (table.bits >= BASELINE_BITS).to_numpy()
    if not chosen.any():
        return np.full(len(accuracy), np.nan)
    mean: NDArray[np.float64] = accuracy[:, chosen].mean(1)
    return mean


def exponents_of_models(panel: Panel, stratum: str, scale: str) -> dict[str, NDArray[np.float64]]:
    """Exponents of each model by itself, shape (draws, models) each; not a number where a model cannot tell.

    A model cannot tell the exponent of a factor that it does not vary with all else the same, and none at all where its
    settings move together or (of damage) where its original was not measured, knows next to nothing, or loses nothing.
    """
    if (stratum, scale) not in panel._known:
        panel._known[stratum, scale] = _exponents_of_models(panel, stratum, scale)
    return panel._known[stratum, scale]


def _exponents_of_models(panel: Panel, stratum: str, scale: str) -> dict[str, NDArray[np.float64]]:
    models = panel.models.model
    form = _form_of(scale)
    found: dict[str, NDArray[np.float64]] = {
        name: np.full((panel.draws, len(models)), np.nan) for name in OF_MODELS[scale]
    }
    # Models with the same settings are one batch.
    batches: dict[bytes, list[tuple[int, Form, dict[str, NDArray[np.float64]], NDArray[np.float64]]]] = {}
    for place, model in enumerate(models):
        table, accuracy = panel.rows_of(stratum, str(model))
        if table.empty:
            continue
        used, factors = panel.settings_of(stratum, str(model))
        varied = _varied(factors)
        own = form.without({"N", "B", "C", "G"} - varied)
        factors = {name: factors[name] for name in own.factors}
        if not varied or not _is_determined(own, factors):
            continue
        values = accuracy[:, used]
        if scale == DAMAGE:
            before = original(table, accuracy)
            if not (np.isfinite(before).all() and before.mean() > NEXT_TO_NOTHING):
                continue
            values = values / np.maximum(before, NEXT_TO_NOTHING / 2)[:, None]
        key = b"".join([str(own.loss).encode(), *(part.tobytes() for part in factors.values())])
        batches.setdefault(key, []).append((place, own, factors, values))
    for members in batches.values():
        _, own, factors, _ = members[0]
        estimated = _fit(own, factors, np.stack([values for *_, values in members]), scale)
        for (place, *_), part in zip(members, estimated, strict=True):
            alone = varied_alone(factors)
            for index, parameter in enumerate(own.parameters):
                if parameter.name in found and FACTOR_OF[parameter.name] in alone:
                    found[parameter.name][:, place] = part[:, index]
    return found


def _varied(factors: Mapping[str, NDArray[np.float64]]) -> set[str]:
    return {
        name for name, values in factors.items() if len(values) and np.isfinite(values).all() and np.ptp(values) > 0
    }


def varied_alone(factors: Mapping[str, NDArray[np.float64]]) -> set[str]:
    """The factors that differ between settings that are the same in all others.

    One that differs only together with others is confounded with what the others do together, whatever a law that adds
    their effects up makes of it.
    """
    settings = set(zip(*factors.values(), strict=True))
    places = enumerate(factors)
    return {name for place, name in places if len({s[:place] + s[place + 1 :] for s in settings}) < len(settings)}


def confounded_models(panel: Panel, stratum: str, exponent: str) -> tuple[int, int]:
    """How many models vary the factor of an exponent, and how many of them with all else the same."""
    name = FACTOR_OF[exponent]
    settings = [panel.settings_of(stratum, str(model))[1] for model in panel.models.model]
    varying = [factors for factors in settings if name in _varied(factors)]
    return len(varying), sum(name in varied_alone({n: factors[n] for n in _varied(factors)}) for factors in varying)


def _form_of(scale: str) -> Form:
    """The form of one model: that of all of them without the size, and on the scale of damage without the original."""
    if scale == ACCURACY:
        return PAPER_LAW
    anchored = form_named("anchored")
    damage = Form("damage", "damage", anchored.formula.removeprefix("F + "), DAMAGE_PARAMETERS, anchored.reference)
    return damage.without_priors()


def _is_determined(form: Form, factors: Mapping[str, NDArray[np.float64]]) -> bool:
    """Whether the settings differ in as many independent ways as there are parameters."""
    design = form.log_design(factors)
    return len(design) > design.shape[1] and np.linalg.matrix_rank(design - design.mean(0)) == design.shape[1] - 1


def _fit(
    form: Form, factors: dict[str, NDArray[np.float64]], values: NDArray[np.float64], scale: str
) -> NDArray[np.float64]:
    """Parameters by least squares in ``values``, (models, draws, rows), shape (models, draws, p); not a number where
    there are none. The draws start where the fit to their mean ends."""
    n_models, draws, rows = values.shape
    centre = values.mean(1)
    best: NDArray[np.float64] = np.full((n_models, len(form.parameters)), np.nan)
    cost = np.full(n_models, np.inf)
    for start in form.starts(STARTS):
        solved = solve(form, factors, centre, np.ones_like(centre), np.tile(start, (n_models, 1)))
        better = solved.cost < cost * (1 - 1e-9)
        best[better], cost[better] = solved.fitted[better], solved.cost[better]
    if draws > 1:
        every = values.reshape(n_models * draws, rows)
        best = solve(form, factors, every, np.ones_like(every), np.repeat(best, draws, axis=0)).fitted
    natural = form.to_natural(best)
    usable: NDArray[np.bool_] = np.isfinite(natural).all(axis=1) & np.all(
        np.abs(natural[:, 1:]) < LARGEST_EXPONENT, axis=1
    )
    if scale == DAMAGE:
        usable &= natural[:, 0] > LEAST_DAMAGE
    return np.where(usable[:, None], natural, np.nan).reshape(n_models, draws, -1)


def levels_of_models(panel: Panel, stratum: str, scale: str = ACCURACY) -> NDArray[np.float64]:
    """ln(-ln a) of each model, a being its mean over the settings that all models have, shape (draws, models).

    Its slope over ln N is the paper's alpha. On the scale of damage a is the share that is left of the model's own
    original, and the slope that of ln D. Not a number where no setting is common to all models.
    """
    table, models = panel.tables[stratum], panel.models.model
    fitted = (table.bits > PHASE_TRANSITION_BITS) & (table.bits < BASELINE_BITS)
    settings = table[fitted].groupby(["bits", "group_size", "calibration_size"], dropna=False).model
    common = fitted.to_numpy(copy=True)
    common[fitted.to_numpy()] = (settings.transform("nunique") == len(models)).to_numpy()
    levels = np.full((panel.draws, len(models)), np.nan)
    for place, model in enumerate(models):
        chosen = common & (table.model == model).to_numpy()
        if chosen.any():
            mean = panel.accuracy[stratum][:, chosen].mean(1)
            if scale == DAMAGE:
                mean = mean / original(*panel.rows_of(stratum, str(model)))
            inside = (mean > 0) & (mean < 1)
            levels[inside, place] = np.log(-np.log(mean[inside]))
    return levels


@dataclass(frozen=True)
class Estimate:
    """A mean over models, or a slope over their sizes: ``value``, its standard error, and degrees of freedom.

    ``spread``: standard deviation of what is averaged, so that K models give a standard error of spread / sqrt(K).
    """

    value: float
    stderr: float
    freedom: float
    spread: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        half = float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.stderr if self.freedom > 0 else np.inf
        return self.value - half, self.value + half

    def p_above(self, threshold: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that the value is not above a threshold."""
        if self.freedom < 1 or not np.isfinite(self.stderr):
            return float("nan")
        if self.stderr == 0:
            return float(self.value <= threshold)
        return float(stats.t.sf((self.value - threshold) / self.stderr, self.freedom))

    def p_below(self, threshold: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that the value is not below a threshold."""
        return Estimate(-self.value, self.stderr, self.freedom, self.spread).p_above(-threshold)


def mean_over_models(values: NDArray[np.float64]) -> Estimate:
    """The mean of one value for each model, shape (models,), those that are missing left out."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return Estimate(float(known.mean()) if len(known) else np.nan, np.nan, len(known) - 1, np.nan)
    spread = float(known.std(ddof=1))
    return Estimate(float(known.mean()), spread / float(np.sqrt(len(known))), len(known) - 1, spread)


def slope_over_sizes(
    values: NDArray[np.float64], log_size: NDArray[np.float64], families: Sequence[str] | pd.Series
) -> Estimate:
    """The slope of one value for each model over ln N, with an intercept for each family, by least squares."""
    known = np.isfinite(values)
    y, x, family = values[known], log_size[known], np.asarray(families)[known]
    for name in np.unique(family):
        own = family == name
        y = np.where(own, y - y[own].mean(), y)
        x = np.where(own, x - x[own].mean(), x)
    freedom = len(y) - len(np.unique(family)) - 1
    variance = float((x**2).sum())
    if freedom < 1 or variance < 1e-12:
        return Estimate(np.nan, np.nan, 0, np.nan)
    slope = float((x * y).sum()) / variance
    stderr = float(np.sqrt(((y - slope * x) ** 2).sum() / freedom / variance))
    return Estimate(slope, stderr, freedom, stderr * float(np.sqrt(len(y))))
