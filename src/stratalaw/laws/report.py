"""From a file with observations to a folder with everything that they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stratalaw.files import appears_whole
from stratalaw.laws.analysis import Analysis, analyse, exponents_table, one_family_fitted
from stratalaw.laws.fit import STARTS
from stratalaw.laws.forms import FORMS, PAPER_LAW, form_named
from stratalaw.laws.holdout import BASELINES
from stratalaw.laws.rows import TableError, read_observations


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


def write_report(observations: pd.DataFrame, analysis: Analysis, folder: Path) -> None:
    """Write ``laws.json``, tables (CSV), figures (SVG and PNG) and ``checklist.md`` into a folder."""
    from stratalaw.figures import draw_laws, save

    folder.mkdir(parents=True, exist_ok=True)
    with appears_whole(folder / "laws.json") as unfinished:
        unfinished.write_text(json.dumps(analysis.to_dict(), indent=1) + "\n")
    tables = {"exponents": exponents_table(analysis), "forms": analysis.forms, "verdicts": analysis.verdicts}
    for name, table in tables.items():
        with appears_whole(folder / f"{name}.csv") as unfinished:
            table.to_csv(unfinished, index=False, float_format="%.4g")
    for name, figure in draw_laws(observations, analysis).items():
        for suffix in ("svg", "png"):
            save(figure, folder / f"{name}.{suffix}")
    with appears_whole(folder / "checklist.md") as unfinished:
        unfinished.write_text(checklist(observations, analysis))


def checklist(observations: pd.DataFrame, analysis: Analysis) -> str:
    """What a reader needs to judge or repeat the fits, after the (Mis)Fitting checklist (arXiv 2502.18969)."""
    sizes = observations.groupby("model", sort=False).n_params.first()
    fitted = observations[~observations.held_out.astype(bool)]
    held_out = sorted(set(observations.model) - set(fitted.model))
    law = analysis.laws[0]
    likelihoods = [fit for fit in analysis.fits if fit.estimator == "likelihood"]
    robust = [fit for fit in analysis.fits if fit.estimator == "accuracy"]
    agreeing = [fit.diagnostics["starts_that_agree"] for fit in robust]
    answers = {
        "Form of the law": f"-ln(a) = {PAPER_LAW.formula}; a = (accuracy - chance) / (1 - chance)",
        "Variables": "parameters (relative to their geometric mean), nominal and effective bits, group size, "
        "calibration samples",
        "Rival forms and baselines": ", ".join(
            dict.fromkeys([*analysis.forms.form, *(baseline.name for baseline in BASELINES)])
        ),
        "Models": f"{len(sizes)} of {sizes.min():.4g} to {sizes.max():.4g} parameters; held out: "
        f"{', '.join(held_out) or 'none'}",
        "Rows": f"{len(observations)} observations of {observations.benchmark.nunique()} benchmarks; "
        + "; ".join(f"{law.stratum}: {law.n_rows} fitted" for law in analysis.laws),
        "Rows left out": "; ".join(f"{count} x {reason}" for reason, count in law.left_out.items()) or "none",
        "Objective": "least squares of ln(-ln a) (the paper's); soft-L1 least squares of a; beta-binomial likelihood "
        "with the floor at chance",
        "Optimizer": "closed form; Levenberg-Marquardt with analytic derivatives; BFGS",
        "Starts": f"{STARTS} at most for each form; {min(agreeing, default=0)} to {max(agreeing, default=0)} of them "
        "reach the same optimum",
        "Convergence": "largest relative gradient "
        f"{max((fit.diagnostics['relative_gradient'] for fit in robust + likelihoods), default=float('nan')):.1e}",
        "Identifiability": "condition number of the paper's law: "
        + ", ".join(f"{law.stratum} {law.diagnostics['condition_number']:.0f}" for law in analysis.laws),
        "Uncertainty": "models and items resampled; profile likelihood",
        "Validation": "largest size, each size and each bit-width held out; coverage of intervals in forms.csv",
        "What a reader must know": "; ".join(analysis.notes) or "nothing",
        "Data and code": "all rows are in the observations table; `stratalaw fit` repeats everything from it",
    }
    rows = "\n".join(f"| {question} | {answer} |" for question, answer in answers.items())
    return f"# Checklist\n\n| question | answer |\n|---|---|\n{rows}\n"
