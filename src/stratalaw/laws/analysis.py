"""Everything that is asked of an observations table: fits, how sure they are, what they predict, and verdicts."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from stratalaw.errors import StratalawError
from stratalaw.laws.claims import APPLICATION, REASONING
from stratalaw.laws.comparison import EACH_SIZE, Comparison, of_stratum
from stratalaw.laws.draws import mean_over_draws
from stratalaw.laws.exponents import Panel
from stratalaw.laws.families import Agreement, agreements
from stratalaw.laws.fit import Estimator, FitError, LawFit, families_of, fit_law
from stratalaw.laws.forms import FORMS, PAPER_LAW, Form, form_named
from stratalaw.laws.holdout import compare, distinct_forms, predict_held_out
from stratalaw.laws.intervals import intervals_of, model_exponents, profile_curves, used_rows
from stratalaw.laws.noise import NoiseDraws
from stratalaw.laws.power import Need, needs
from stratalaw.laws.resampling import FEW_MODELS, RESAMPLES
from stratalaw.laws.rows import Rows, fitted_method, mean_over_strata, reasons_to_leave_out, rows_of, stratum_accuracies
from stratalaw.laws.scatter import Scatter, scatter_of
from stratalaw.laws.table import UTILIZATION, TableError, read_items, read_observations
from stratalaw.laws.verdicts import MIN_MODELS, Verdict, judge
from stratalaw.laws.whole import COLUMNS, whole_study
from stratalaw.seals import Seal, SealError, seal_of, write_record
from stratalaw.study.variants import BASELINE_BITS

FORMAT = 4  # of laws.json; a change that older readers would misread raises it
NO_LAWS = "no law was fitted"
HOW_TO_FIT = "make it with the workflow or with `stratalaw fit TABLE --out FOLDER`"
WORKERS = 2
MANY_ROWS = 1000  # of a stratum: beyond it, draws of the calibration set are averaged
MEASURED_COLUMNS = (
    *("model", "family", "n_params", "variant", "bits", "effective_bits", "group_size", "calibration_size"),
    *("stratum", "accuracy_adjusted", "stderr_adjusted", "baseline_loss", "is_fitted"),
)
LOG = logging.getLogger("stratalaw")


class LawsError(StratalawError):
    """A file that does not hold laws; the message is one line."""


@dataclass(frozen=True)
class Analysis:
    """What an observations table says.

    ``laws``: the paper's law of each stratum and in general, by ``logarithm``; ``fits``: every form by ``accuracy``,
    and the paper's law by ``likelihood`` too; ``intervals``: of each parameter, of the paper's law by every method and
    of its rivals by resampling; ``exponents``: of each model by itself; ``forms``: every form and baseline of each
    stratum compared on held-out rows, the best first; ``verdicts``: on the paper's claims; ``families``: whether
    exponents agree between them; ``needs``: what would decide the claims that are open; ``profiles``: of the
    likelihood; ``held_out``: what the paper's law and its best rival say of sizes that they were not fitted to;
    ``scatters``: of the law that predicts each stratum; ``measured``: accuracies of all variants, which predictions
    return; ``notes``: what a reader must know; ``variants``: every variant, as measured or as predicted (see
    ``whole``). All but the last two are empty where the table supports no law.
    """

    laws: list[LawFit]
    fits: list[LawFit]
    intervals: pd.DataFrame
    exponents: pd.DataFrame
    forms: list[Comparison]
    verdicts: list[Verdict]
    families: list[Agreement]
    needs: list[Need]
    profiles: pd.DataFrame
    held_out: pd.DataFrame
    scatters: list[Scatter]
    measured: pd.DataFrame
    notes: list[str]
    variants: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))

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
        except (ValueError, RecursionError) as error:  # neither text nor JSON, or nested without bound
            raise LawsError(f"{path}: not JSON ({error}); {HOW_TO_FIT}") from None
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            if isinstance(content, dict) and "effects" in content:
                raise LawsError(
                    f"{path}: a law of published numbers, which `stratalaw plan MODEL` reads, not of a study"
                )
            what = "no laws" if found is None else f"laws in format {found}, and this version reads format {FORMAT}"
            raise LawsError(f"{path}: {what}; {HOW_TO_FIT}")
        try:
            seal_of(path, "laws")
        except SealError:
            raise LawsError(f"{path}: damaged or edited: it is not what its seal says; {HOW_TO_FIT}") from None
        try:
            return cls.from_dict(content)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise LawsError(f"{path}: damaged ({type(error).__name__}: {error}); {HOW_TO_FIT}") from None

    @classmethod
    def without_laws(cls, reason: str) -> Analysis:
        """The analysis of a table that supports no law; ``reason``: why not, as one sentence without a full stop."""
        nothing = pd.DataFrame()
        return cls(
            laws=[],
            fits=[],
            intervals=nothing,
            exponents=nothing,
            forms=[],
            verdicts=[],
            families=[],
            needs=[],
            profiles=nothing,
            held_out=nothing,
            scatters=[],
            measured=nothing,
            notes=[f"{NO_LAWS}: {reason}"],
        )

    @property
    def why_no_laws(self) -> str:
        """Why there is no law, as one sentence without a full stop; empty if there is one."""
        return next((note for note in self.notes if note.startswith(NO_LAWS)), "")

    def write(self, path: Path, made_from: Mapping[str, str] | None = None) -> None:
        """Write everything as sealed JSON; ``made_from``: digests of the tables, where they have one."""
        write_record({"format": FORMAT} | self.to_dict(), path, Seal("laws", {}, made_from or {}))

    def to_dict(self) -> dict[str, Any]:
        """Everything that a file can hold."""
        return {
            "laws": [law.to_dict() for law in self.laws],
            "fits": [fit.to_dict() for fit in self.fits],
            "intervals": _records(self.intervals),
            "exponents": _records(self.exponents),
            "forms": [record.to_dict() for record in self.forms],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "families": [asdict(row) for row in self.families],
            "needs": [asdict(need) for need in self.needs],
            "profiles": _records(self.profiles),
            "held_out": _records(self.held_out),
            "scatters": [scatter.to_dict() for scatter in self.scatters],
            "measured": _records(self.measured),
            "notes": self.notes,
            "variants": _records(self.variants),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Analysis:
        return cls(
            laws=[LawFit.from_dict(law) for law in content["laws"]],
            fits=[LawFit.from_dict(fit) for fit in content["fits"]],
            intervals=pd.DataFrame(content["intervals"]),
            exponents=pd.DataFrame(content["exponents"]),
            forms=[Comparison.from_dict(record) for record in content["forms"]],
            verdicts=[Verdict(**verdict) for verdict in content["verdicts"]],
            families=[Agreement(**row) for row in content["families"]],
            needs=[Need(**need) for need in content["needs"]],
            profiles=pd.DataFrame(content["profiles"]),
            held_out=pd.DataFrame(content["held_out"]),
            scatters=[Scatter(**scatter) for scatter in content["scatters"]],
            measured=_with_numbers(pd.DataFrame(content["measured"])),
            notes=content["notes"],
            variants=pd.DataFrame(content["variants"], columns=list(COLUMNS)),
        )


def _records(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Rows as JSON can hold them: missing numbers are null."""
    return table.astype(object).where(table.notna(), None).to_dict(orient="records")


def _with_numbers(measured: pd.DataFrame) -> pd.DataFrame:
    """A null is a missing number again, also where a column has nothing else."""
    numbers = [name for name in MEASURED_COLUMNS if name not in ("model", "family", "variant", "stratum", "is_fitted")]
    return measured.reindex(columns=list(MEASURED_COLUMNS)).astype(dict.fromkeys(numbers, float))


def analyse(
    observations: pd.DataFrame,
    forms: Sequence[Form] = FORMS,
    items: pd.DataFrame | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Analysis:
    """Fit, resample, hold out and judge.

    Args:
        observations: see ``table.check_observations`` for the columns. Several families share all parameters but
            their intercepts; of several methods GPTQ is fitted.
        forms: those to compare; the paper's law is always fitted.
        items: scores of items (model, variant, stratum, task, document, score), if there are any: then items are
            resampled jointly over variants if all were asked the same, and otherwise row by row with its own error.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        FitError: too few usable rows.
        TableError: the table cannot be used.
    """
    forms = [PAPER_LAW, *(form for form in forms if form.name != PAPER_LAW.name)]
    every = with_utilization(observations)
    averaged: list[str] = []
    if (rows := every.stratum.value_counts().max()) > MANY_ROWS:
        every, names = mean_over_draws(every)
        if (settings := every.stratum.value_counts().max()) < rows:
            averaged = [f"{rows:,} variants of {settings:,} settings: draws of the calibration set are averaged"]
        items = None if items is None else _items_over_draws(items, names)
    accuracies, unfitted = fittable_strata(every)
    strata = [name for name in accuracies.stratum.unique() if name != UTILIZATION]
    laws = [fit_law(accuracies, PAPER_LAW, stratum) for stratum in strata]
    joint = items if items is None or _are_the_same(items) else None
    noise = NoiseDraws(accuracies, {} if joint is None else _chance_of(observations), joint, resamples, seed)
    with ThreadPoolExecutor(WORKERS) as workers:
        fits = [
            fit
            for found in workers.map(lambda stratum: _fit_forms(accuracies, stratum, forms), strata)
            for fit in found
        ]
        intervals = pd.concat(
            workers.map(lambda law: intervals_of(accuracies, law, fits, noise), laws), ignore_index=True
        )
        compared = [
            record
            for found in workers.map(lambda stratum: _compare(accuracies, stratum, forms), strata)
            for record in found
        ]
        curves = workers.map(lambda fit: profile_curves(accuracies, fit), likelihoods(fits))
        profiles = pd.concat([pd.DataFrame(), *curves], ignore_index=True)
    panel = Panel.observed(accuracies)
    verdicts = judge(panel, noise.panel() if accuracies.stderr_adjusted.notna().any() else None)
    return Analysis(
        laws=laws,
        fits=fits,
        intervals=intervals,
        exponents=model_exponents(accuracies, strata),
        forms=compared,
        verdicts=verdicts,
        families=agreements(panel),
        needs=needs(verdicts, panel),
        profiles=profiles,
        held_out=_predict_held_out(accuracies, compared, forms),
        scatters=[scatter for stratum in strata for scatter in predicting(accuracies, stratum, fits, compared)],
        measured=measured_rows(accuracies),
        notes=[*averaged, *unfitted, *_notes(accuracies, items, laws)],
        variants=whole_study(observations),
    )


def _are_the_same(items: pd.DataFrame) -> bool:
    """Whether all variants of a model were asked as many items of each task."""
    counts = items.groupby(["model", "task", "variant"], observed=True).size()
    return bool((counts.groupby(level=[0, 1], observed=True).nunique() == 1).all())


def _items_over_draws(items: pd.DataFrame, names: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Scores of items as the mean over draws; ``names``: see ``draws.mean_over_draws``."""
    pairs = zip(items.model.astype(str), items.variant.astype(str), strict=True)
    named = items.assign(variant=[names.get(pair, pair[1]) for pair in pairs])
    of_item = ["model", "variant", "stratum", "task", "document"]
    return named.groupby(of_item, sort=False, observed=True).score.mean().reset_index()


def _chance_of(observations: pd.DataFrame) -> dict[str, float]:
    """By benchmark."""
    found = observations.groupby("benchmark").chance.first()
    return {str(name): float(value) for name, value in found.items()}


def likelihoods(fits: Sequence[LawFit]) -> list[LawFit]:
    return [fit for fit in fits if fit.estimator == "likelihood"]


def with_utilization(observations: pd.DataFrame) -> pd.DataFrame:
    """Rows of each stratum and in general, and of application and reasoning pooled (the paper's first version)."""
    accuracies = stratum_accuracies(observations)
    pooled = accuracies[accuracies.stratum.isin([APPLICATION, REASONING])]
    if pooled.stratum.nunique() < 2:
        return accuracies
    return pd.concat([accuracies, mean_over_strata(pooled, UTILIZATION)], ignore_index=True)


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


def _fit_forms(accuracies: pd.DataFrame, stratum: str, forms: Sequence[Form]) -> list[LawFit]:
    table, _ = used_rows(accuracies, stratum, keep_collapsed=True)
    names = {form.name for form in distinct_forms(forms, rows_of(table))}
    wanted: list[tuple[Form, Estimator]] = [(form, "accuracy") for form in forms if form.name in names]
    fits = []
    for form, estimator in [*wanted, (PAPER_LAW, "likelihood")]:
        try:
            fits.append(fit_law(accuracies, form, stratum, estimator))
        except FitError as error:
            # A rival that the data cannot determine is no reason to refuse the study.
            LOG.info("%s: %s by %s: %s", stratum, form.name, estimator, error)
    return fits


def comparison_rows(accuracies: pd.DataFrame, stratum: str) -> Rows:
    """Held-out models take part here: they are what the forms have not seen."""
    rows = accuracies[accuracies.stratum == stratum].assign(held_out=False)
    # Also what collapsed: to leave it out because of what was observed would flatter the predictions.
    used = rows[reasons_to_leave_out(rows, keep_collapsed=True) == ""]
    return rows_of(used, families=families_of(used))


def _compare(accuracies: pd.DataFrame, stratum: str, forms: Sequence[Form]) -> list[Comparison]:
    return [record.of(stratum) for record in compare(comparison_rows(accuracies, stratum), forms)]


def _predict_held_out(accuracies: pd.DataFrame, compared: Sequence[Comparison], forms: Sequence[Form]) -> pd.DataFrame:
    """Held-out predictions of the paper's law and of its best rival in each stratum; empty below three sizes."""
    by_name = {form.name: form for form in (PAPER_LAW, *forms)}
    tables = []
    for stratum in dict.fromkeys(record.stratum for record in compared):
        ranking = of_stratum(compared, stratum)
        if EACH_SIZE not in ranking[0].held_out:
            continue
        rivals = [record.form for record in ranking if not record.is_baseline and record.form != PAPER_LAW.name]
        rows = comparison_rows(accuracies, stratum)
        for name in [PAPER_LAW.name, *rivals[:1]]:
            tables.append(predict_held_out(by_name[name], rows).assign(stratum=stratum))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def predicting(
    accuracies: pd.DataFrame, stratum: str, fits: Sequence[LawFit], compared: Sequence[Comparison]
) -> list[Scatter]:
    """The scatter of the law that predicts a stratum: the best anchored form, or the best form where none is anchored;
    none where no form was fitted in accuracy space.

    A form without bits, which rank well where few rows tell sizes apart, says the same of 3 bits and of 4.
    """
    usable = {
        fit.form.name: fit
        for fit in fits
        if (fit.stratum, fit.estimator) == (stratum, "accuracy")
        and ({"B", "E"} & set(fit.form.factors) or len(fit.levels["bits"]) == 1)
    }
    ranking = [usable[record.form] for record in of_stratum(compared, stratum) if record.form in usable]
    chosen = next((fit for fit in ranking if fit.form.is_anchored), ranking[0] if ranking else None)
    if chosen is None:
        return []
    table, _ = used_rows(accuracies, stratum, keep_collapsed=True)
    return [scatter_of(chosen, table, accuracies[accuracies.stratum == stratum])]


def measured_rows(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Accuracies of all variants, and whether laws could be fitted to them (but for being held out)."""
    rows = accuracies[accuracies.stratum != UTILIZATION]
    own_method = rows.method.str.upper().eq(fitted_method(rows).upper()) | (rows.bits >= BASELINE_BITS)
    usable = reasons_to_leave_out(rows.assign(held_out=False), keep_collapsed=True) == ""
    return rows.assign(is_fitted=usable)[own_method][list(MEASURED_COLUMNS)].reset_index(drop=True)


def _notes(accuracies: pd.DataFrame, items: pd.DataFrame | None, laws: Sequence[LawFit]) -> list[str]:
    table, _ = used_rows(accuracies, laws[0].stratum)
    models = table.model.nunique()
    notes = []
    if len(families := sorted(table.family.unique())) > 1:
        pooled = "each has its own intercept, and all share the rest" if laws[0].form.families else "fitted as one"
        notes.append(f"{len(families)} families ({', '.join(families)}): {pooled}")
    methods = accuracies.method[accuracies.bits < BASELINE_BITS]
    others = methods[methods.str.upper() != fitted_method(accuracies).upper()]
    if len(others):
        notes.append(
            f"laws are fitted to rows of {fitted_method(accuracies)}; those of {', '.join(sorted(others.unique()))} "
            "are left out"
        )
    if models < FEW_MODELS:
        notes.append(
            f"{models} models were fitted: intervals from resampled models are too narrow when they are so few, those "
            "by t over models are not"
            + (f"; with fewer than {MIN_MODELS} no claim is decided" if models < MIN_MODELS else "")
        )
    if table.calibration_seed.nunique() < 2:
        notes.append("one draw of the calibration set: what draws add is not told apart from what models differ by")
    if accuracies.stderr_adjusted.isna().any():
        notes.append("rows without n_items or stderr: intervals do not contain their item noise")
    elif items is None:
        notes.append("no scores of items: item noise is taken as binomial and independent between variants")
    elif not _are_the_same(items):
        notes.append("variants were asked different numbers of items: item noise is taken as independent between them")
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
        TableError, FitError, FormError: one line that says what is wrong.
    """
    chosen = [form_named(name) for name in forms] or FORMS
    observations = with_held_out(read_observations(path), held_out, path)
    scores = None if items is None else read_items(items)
    return observations, analyse(observations, chosen, scores, resamples)


def with_held_out(observations: pd.DataFrame, held_out: Sequence[str], path: Path) -> pd.DataFrame:
    """The table with more models held out; raises TableError where there is no such model."""
    unknown = sorted(set(held_out) - set(observations.model))
    if unknown:
        names = ", ".join(observations.model.unique())
        raise TableError(f"{path}: there is no model {unknown[0]} to hold out; there are {names}")
    return observations.assign(held_out=observations.held_out.astype(bool) | observations.model.isin(held_out))


def judge_table(path: Path, held_out: Sequence[str]) -> tuple[list[Verdict], list[Need]]:
    """The verdicts of a table, and what would decide the claims that it leaves open.

    Raises:
        TableError: one line that says what is wrong.
    """
    accuracies = with_utilization(with_held_out(read_observations(path), held_out, path))
    panel = Panel.observed(accuracies)
    noisy = accuracies.stderr_adjusted.notna().any()
    verdicts = judge(panel, NoiseDraws(accuracies, {}, None, RESAMPLES, 0).panel() if noisy else None)
    return verdicts, needs(verdicts, panel)
