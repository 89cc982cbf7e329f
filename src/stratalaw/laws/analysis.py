"""Everything that is asked of an observations table: fits, how sure they are, what they predict, and verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.errors import StratalawError
from stratalaw.files import write_json
from stratalaw.laws.fit import FitError, LawFit, fit_law, with_cluster_covariance
from stratalaw.laws.forms import FORMS, PAPER_LAW, Form, form_named
from stratalaw.laws.holdout import EACH_SIZE, compare, predict_held_out
from stratalaw.laws.resampling import (
    FEW_MODELS,
    RESAMPLES,
    binomial_draws,
    item_draws,
    model_weights,
    percentile_intervals,
    profile_curve,
    profile_interval,
    refit,
)
from stratalaw.laws.rows import (
    GENERAL,
    Rows,
    TableError,
    read_observations,
    reasons_to_leave_out,
    rows_of,
    stratum_accuracies,
)
from stratalaw.laws.verdicts import APPLICATION, MIN_MODELS, REASONING, UTILIZATION, Draws, judge

FORMAT = 1  # of laws.json; a change that older readers would misread raises it
NO_LAWS = "no law was fitted"
HOW_TO_FIT = "make it with the workflow or with `stratalaw fit TABLE --out FOLDER`"
WORKERS = 2
BOTH = "models and items resampled"


class LawsError(StratalawError):
    """A file that does not hold laws; the message is one line."""


@dataclass(frozen=True)
class Analysis:
    """What an observations table says.

    ``laws``: the paper's law of each stratum and in general, by ``logarithm``; ``fits``: every form by ``accuracy``,
    and the paper's law by ``likelihood`` too; ``intervals``: of each parameter, of the paper's law by every method and
    of its rivals by resampling; ``forms``: every form of each stratum compared on held-out rows; ``verdicts``: on the
    paper's claims; ``profiles``: of its likelihood; ``held_out``: what the paper's law and its best rival say of sizes
    that they were not fitted to; ``notes``: what a reader must know. All but the notes are empty where the table
    supports no law.
    """

    laws: list[LawFit]
    fits: list[LawFit]
    intervals: pd.DataFrame
    forms: pd.DataFrame
    verdicts: pd.DataFrame
    profiles: pd.DataFrame
    held_out: pd.DataFrame
    notes: list[str]

    @classmethod
    def read(cls, path: Path) -> Analysis:
        """The analysis in a ``laws.json``.

        Raises:
            LawsError: the file is not there, not JSON, or not laws in the format of this version.
        """
        try:
            content = json.loads(path.read_text())
        except OSError as error:
            raise LawsError(f"{path}: {error.strerror}") from None
        except ValueError as error:  # neither text nor JSON
            raise LawsError(f"{path}: not JSON ({error}); {HOW_TO_FIT}") from None
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            what = "no laws" if found is None else f"laws in format {found}, and this version reads format {FORMAT}"
            raise LawsError(f"{path}: {what}; {HOW_TO_FIT}")
        try:
            return cls.from_dict(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LawsError(f"{path}: damaged ({type(error).__name__}: {error}); {HOW_TO_FIT}") from None

    @classmethod
    def without_laws(cls, reason: str) -> Analysis:
        """The analysis of a table that supports no law; ``reason``: why not, as one sentence without a full stop."""
        nothing = pd.DataFrame()
        return cls([], [], nothing, nothing, nothing, nothing, nothing, notes=[f"{NO_LAWS}: {reason}"])

    @property
    def why_no_laws(self) -> str:
        """Why there is no law, as one sentence without a full stop; empty if there is one."""
        return next((note for note in self.notes if note.startswith(NO_LAWS)), "")

    def write(self, path: Path) -> None:
        write_json({"format": FORMAT} | self.to_dict(), path)

    def to_dict(self) -> dict:
        """Everything that a file can hold."""
        return {
            "laws": [law.to_dict() for law in self.laws],
            "fits": [fit.to_dict() for fit in self.fits],
            "intervals": _records(self.intervals),
            "forms": _records(self.forms),
            "verdicts": _records(self.verdicts),
            "profiles": _records(self.profiles),
            "held_out": _records(self.held_out),
            "notes": self.notes,
        }

    @classmethod
    def from_dict(cls, content: dict) -> Analysis:
        return cls(
            laws=[LawFit.from_dict(law) for law in content["laws"]],
            fits=[LawFit.from_dict(fit) for fit in content["fits"]],
            intervals=pd.DataFrame(content["intervals"]),
            forms=pd.DataFrame(content["forms"]),
            verdicts=pd.DataFrame(content["verdicts"]),
            profiles=pd.DataFrame(content["profiles"]),
            held_out=pd.DataFrame(content["held_out"]),
            notes=content["notes"],
        )


def _records(table: pd.DataFrame) -> list[dict]:
    """Rows as JSON can hold them: missing numbers are null."""
    return table.astype(object).where(table.notna(), None).to_dict(orient="records")


def analyse(
    observations: pd.DataFrame,
    forms: Sequence[Form] = FORMS,
    items: pd.DataFrame | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Analysis:
    """Fit, resample, hold out and judge.

    Args:
        observations: see ``rows.check_observations`` for the columns. Of several families the one with most models is
            fitted, and the others are only predicted.
        forms: those to compare; the paper's law is always fitted.
        items: scores of items (model, variant, stratum, task, document, score), if there are any: then items are
            resampled jointly over variants, and otherwise row by row with a binomial error.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        FitError: too few usable rows.
        TableError: the table cannot be used.
    """
    forms = [PAPER_LAW, *(form for form in forms if form.name != PAPER_LAW.name)]
    observations = one_family_fitted(observations)
    accuracies, unfitted = fittable_strata(with_utilization(observations))
    strata = [name for name in accuracies.stratum.unique() if name != UTILIZATION]
    laws = [fit_law(accuracies, PAPER_LAW, stratum) for stratum in strata]
    noise = NoiseDraws(accuracies, observations, items, resamples, seed)
    with ThreadPoolExecutor(WORKERS) as workers:
        fits = [
            fit
            for found in workers.map(lambda stratum: _fit_forms(accuracies, stratum, forms), strata)
            for fit in found
        ]
        intervals = pd.concat(
            workers.map(lambda law: _intervals(accuracies, law, fits, noise), laws), ignore_index=True
        )
        compared = pd.concat(
            workers.map(lambda stratum: _compare(accuracies, stratum, forms), strata), ignore_index=True
        )
        curves = workers.map(lambda fit: _curves(accuracies, fit), likelihoods(fits))
        profiles = pd.concat([pd.DataFrame(), *curves], ignore_index=True)
    return Analysis(
        laws=laws,
        fits=fits,
        intervals=intervals,
        forms=compared,
        verdicts=judge(_draws(accuracies, noise)),
        profiles=profiles,
        held_out=_predict_held_out(accuracies, compared, forms),
        notes=[*unfitted, *_notes(accuracies, items, laws)],
    )


def likelihoods(fits: Sequence[LawFit]) -> list[LawFit]:
    return [fit for fit in fits if fit.estimator == "likelihood"]


def one_family_fitted(observations: pd.DataFrame) -> pd.DataFrame:
    """The table with all families held out but the one with most models."""
    if "family" not in observations or observations.family.nunique() < 2:
        return observations
    main = observations.groupby("family", sort=False).n_params.nunique().idxmax()
    held_out = observations.get("held_out", pd.Series(False, index=observations.index)).astype(bool)
    return observations.assign(held_out=held_out | (observations.family != main))


def with_utilization(observations: pd.DataFrame) -> pd.DataFrame:
    """Rows of each stratum and in general, and of application and reasoning pooled (the paper's first version)."""
    accuracies = stratum_accuracies(observations)
    pooled = observations[observations.stratum.isin([APPLICATION, REASONING])]
    if pooled.stratum.nunique() < 2:
        return accuracies
    both = stratum_accuracies(pooled)
    return pd.concat([accuracies, both[both.stratum == GENERAL].assign(stratum=UTILIZATION)], ignore_index=True)


def fittable_strata(accuracies: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the strata that the paper's law can be fitted to, and why not the others.

    Raises:
        FitError: there is no such stratum.
    """
    reasons = {}
    for stratum in accuracies.stratum.unique():
        try:
            fit_law(accuracies, PAPER_LAW, stratum)
        except FitError as error:
            reasons[stratum] = error
    kept = accuracies[~accuracies.stratum.isin(list(reasons))]
    if kept.empty or set(kept.stratum) == {UTILIZATION}:
        raise next(iter(reasons.values()))
    return kept, [f"{stratum} has no law: {error}" for stratum, error in reasons.items() if stratum != UTILIZATION]


class NoiseDraws:
    """Models and items resampled: adjusted accuracies, shape (resamples, rows), for every row of every stratum."""

    def __init__(self, accuracies, observations, items, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed
        self.accuracies = accuracies
        self.items = items
        self.chance = observations.groupby("benchmark").chance.first().to_dict() if items is not None else {}
        self.models = accuracies[~accuracies.held_out.astype(bool)].model.unique()
        self._of_stratum: dict[str, np.ndarray] = {}

    def weights(self, table: pd.DataFrame) -> np.ndarray:
        """How often each row of a table is drawn, by its model, shape (resamples, rows)."""
        return model_weights(table, self.models, self.resamples, self.seed)

    def of(self, stratum: str) -> np.ndarray:
        if stratum not in self._of_stratum:
            rows = rows_of(self.accuracies[self.accuracies.stratum == stratum])
            if self.items is None:
                # Another seed for each stratum: their items are not the same.
                seed = [self.seed, *stratum.encode()]
                found = binomial_draws(rows, self.resamples, seed)
            else:
                members = {GENERAL: None, UTILIZATION: [APPLICATION, REASONING]}.get(stratum, [stratum])
                chosen = self.items if members is None else self.items[self.items.stratum.isin(members)]
                found = item_draws(rows, chosen, self.chance, self.resamples, self.seed)
            self._of_stratum[stratum] = found
        return self._of_stratum[stratum]


def fitted_rows(accuracies: pd.DataFrame, stratum: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that the paper's rule fits, and which of the stratum's rows they are."""
    rows = accuracies[accuracies.stratum == stratum]
    used = (reasons_to_leave_out(rows) == "").to_numpy()
    return rows[used], used


def _fit_forms(accuracies: pd.DataFrame, stratum: str, forms: Sequence[Form]) -> list[LawFit]:
    fits = []
    for form, estimator in [*((form, "accuracy") for form in forms), (PAPER_LAW, "likelihood")]:
        try:
            fits.append(fit_law(accuracies, form, stratum, estimator))
        except FitError as error:
            # A rival that the data cannot determine is no reason to refuse the study.
            print(f"{stratum}: {form.name} by {estimator}: {error}")
    return fits


def _intervals(accuracies: pd.DataFrame, law: LawFit, fits: Sequence[LawFit], noise: NoiseDraws) -> pd.DataFrame:
    """95 % intervals: of the paper's law by every method, of its rivals by resampling models and items."""
    table, used = fitted_rows(accuracies, law.stratum)
    rows = rows_of(table, law.reference_size)
    weights = noise.weights(table)
    drawn = noise.of(law.stratum)[:, used]
    found = [
        (law, "regression (HC3)", law.conf_int()),
        *_other_regressions(accuracies, law, rows),
        (law, "models resampled", percentile_intervals(law, refit(law, rows, weights))),
        (law, "items resampled", percentile_intervals(law, refit(law, rows, np.ones_like(drawn), drawn))),
        (law, BOTH, percentile_intervals(law, refit(law, rows, weights, drawn))),
    ]
    for fit in (fit for fit in fits if fit.stratum == law.stratum):
        if fit.estimator == "likelihood":
            found.append((fit, "profile likelihood", _profiles(accuracies, fit)))
        elif fit.form.name == PAPER_LAW.name:
            found.append((fit, "accuracy space (HC3)", fit.conf_int()))
        else:
            of_form, usable = _accuracy_rows(accuracies, law.stratum)
            resampled = refit(
                fit,
                rows_of(of_form, fit.reference_size),
                noise.weights(of_form),
                noise.of(law.stratum)[:, usable],
            )
            found.append((fit, BOTH, percentile_intervals(fit, resampled)))
    parts = [
        intervals.rename_axis("parameter")
        .reset_index()
        .assign(form=fit.form.name, method=method, value=fit.params.to_numpy())
        for fit, method, intervals in found
    ]
    return pd.concat(parts, ignore_index=True).assign(stratum=law.stratum)


def _other_regressions(accuracies: pd.DataFrame, law: LawFit, rows: Rows) -> list[tuple[LawFit, str, pd.DataFrame]]:
    """The regression with errors that rows of a model share, and with weights, where the table allows them."""
    found = []
    models = np.unique(rows.table.model, return_inverse=True)[1]
    if models.max() > 0:
        found.append((law, "regression (clusters)", with_cluster_covariance(law, rows, models).conf_int()))
    if np.isfinite(rows.stderr).all():
        weighted = fit_law(accuracies, PAPER_LAW, law.stratum, "weighted-logarithm")
        found.append((weighted, "weighted regression (HC3)", weighted.conf_int()))
    return found


def _accuracy_rows(accuracies: pd.DataFrame, stratum: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that ``accuracy`` fits, collapsed ones included, and which of the stratum's rows they are."""
    rows = accuracies[accuracies.stratum == stratum]
    used = (reasons_to_leave_out(rows, keep_collapsed=True) == "").to_numpy()
    return rows[used], used


def _likelihood_rows(accuracies: pd.DataFrame, fit: LawFit) -> Rows:
    """The rows that ``likelihood`` fits: 2 bits and collapsed variants too."""
    rows = accuracies[accuracies.stratum == fit.stratum]
    used = reasons_to_leave_out(rows, keep_two_bits=True, keep_collapsed=True) == ""
    return rows_of(rows[used], fit.reference_size)


def _profiles(accuracies: pd.DataFrame, fit: LawFit) -> pd.DataFrame:
    rows = _likelihood_rows(accuracies, fit)
    bounds = [profile_interval(fit, rows, name) for name in fit.params.index]
    return pd.DataFrame(bounds, index=fit.params.index, columns=["low", "high"])


def _curves(accuracies: pd.DataFrame, fit: LawFit) -> pd.DataFrame:
    rows = _likelihood_rows(accuracies, fit)
    return pd.concat([profile_curve(fit, rows, name) for name in fit.params.index]).assign(stratum=fit.stratum)


def _predict_held_out(accuracies: pd.DataFrame, compared: pd.DataFrame, forms: Sequence[Form]) -> pd.DataFrame:
    """Held-out predictions of the paper's law and of its best rival in each stratum; empty below three sizes."""
    if f"{EACH_SIZE} mae" not in compared:
        return pd.DataFrame()
    by_name = {form.name: form for form in (PAPER_LAW, *forms)}
    tables = []
    # A stratum may have been observed for fewer sizes than others.
    for stratum, ranking in compared.dropna(subset=f"{EACH_SIZE} mae").groupby("stratum", sort=False):
        rivals = [name for name in ranking.form if name in by_name and name != PAPER_LAW.name]
        rows = _comparison_rows(accuracies, stratum)
        for name in [PAPER_LAW.name, *rivals[:1]]:
            tables.append(predict_held_out(by_name[name], rows).assign(stratum=stratum))
    return pd.concat(tables, ignore_index=True)


def _compare(accuracies: pd.DataFrame, stratum: str, forms: Sequence[Form]) -> pd.DataFrame:
    rows = _comparison_rows(accuracies, stratum, with_families=True)
    fitted = accuracies[~accuracies.held_out.astype(bool)].family.iloc[0]
    return compare(rows, forms, (rows.table.family == fitted).to_numpy()).assign(stratum=stratum)


def _comparison_rows(accuracies: pd.DataFrame, stratum: str, with_families: bool = False) -> Rows:
    """Held-out models take part here: they are what the forms have not seen."""
    rows = accuracies[accuracies.stratum == stratum]
    if not with_families:
        rows = rows[rows.family == rows[~rows.held_out.astype(bool)].family.iloc[0]]
    rows = rows.assign(held_out=False)
    # Also what collapsed: to leave it out because of what was observed would flatter the predictions.
    return rows_of(rows[reasons_to_leave_out(rows, keep_collapsed=True) == ""])


def _draws(accuracies: pd.DataFrame, noise: NoiseDraws) -> Draws:
    exponents = {}
    for stratum in accuracies.stratum.unique():
        law = fit_law(accuracies, PAPER_LAW, stratum)
        table, used = fitted_rows(accuracies, stratum)
        weights = noise.weights(table)
        drawn = refit(law, rows_of(table, law.reference_size), weights, noise.of(stratum)[:, used])
        exponents[stratum] = pd.DataFrame(drawn, columns=law.params.index).drop(columns="A")
    overall = GENERAL if GENERAL in exponents else next(iter(exponents))
    chosen = (accuracies.stratum == overall) & ~accuracies.held_out.astype(bool)
    own = chosen[accuracies.stratum == overall].to_numpy()
    table = accuracies[chosen].reset_index(drop=True)
    return Draws(exponents, table, noise.weights(table), noise.of(overall)[:, own])


def _notes(accuracies: pd.DataFrame, items: pd.DataFrame | None, laws: Sequence[LawFit]) -> list[str]:
    table, _ = fitted_rows(accuracies, laws[0].stratum)
    models = table.model.nunique()
    notes = []
    if accuracies.family.nunique() > 1:
        notes.append(
            f"of {accuracies.family.nunique()} families {table.family.iloc[0]} is fitted, the others predicted"
        )
    if models < FEW_MODELS:
        notes.append(
            f"{models} models were fitted: intervals from resampled models are too narrow when they are so few"
            + (f"; with fewer than {MIN_MODELS} no claim is decided" if models < MIN_MODELS else "")
        )
    if table.calibration_seed.nunique() < 2:
        notes.append("one draw of the calibration set: the variance between draws is not in any interval")
    if accuracies.stderr_adjusted.isna().any():
        notes.append("rows without n_items or stderr: intervals do not contain their item noise")
    elif items is None:
        notes.append("no scores of items: item noise is taken as binomial and independent between variants")
    return notes


def fit_table(
    path: Path, forms: Sequence[str], held_out: Sequence[str], items: Path | None, resamples: int
) -> tuple[pd.DataFrame, Analysis]:
    """Read observations and analyse them; returns both.

    Args:
        path: CSV or parquet.
        forms: names of the forms to compare; all if empty.
        held_out: models to leave out of the fit, besides those that the table marks.
        items: scores of items.
        resamples: of the bootstrap.

    Raises:
        TableError, FitError, LookupError: one line that says what is wrong.
    """
    chosen = [form_named(name) for name in forms] or FORMS
    observations = read_observations(path)
    unknown = sorted(set(held_out) - set(observations.model))
    if unknown:
        names = ", ".join(observations.model.unique())
        raise TableError(f"{path}: there is no model {unknown[0]} to hold out; there are {names}")
    observations["held_out"] = observations.held_out.astype(bool) | observations.model.isin(held_out)
    observations = one_family_fitted(observations)
    scores = None if items is None else pd.read_parquet(items)
    return observations, analyse(observations, chosen, scores, resamples)
