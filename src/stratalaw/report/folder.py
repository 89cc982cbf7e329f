"""What is said of a table of observations, as a folder: laws, tables, figures and a checklist."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stratalaw.files import write_text
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.baselines import BASELINES
from stratalaw.laws.fit import STARTS
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.tables import write_tables
from stratalaw.layout import LAW_TABLES


def write_report(observations: pd.DataFrame, analysis: Analysis, folder: Path) -> None:
    """Write ``laws.json``, tables (CSV), figures (SVG and PNG) and ``checklist.md`` into a folder."""
    from stratalaw.report.figures import plot_laws, save

    folder.mkdir(parents=True, exist_ok=True)
    analysis.write(folder / "laws.json")
    write_tables(analysis, {name: folder / f"{name}.csv" for name in LAW_TABLES})
    for name, figure in plot_laws(observations, analysis).items():
        for suffix in ("svg", "png"):
            save(figure, folder / f"{name}.{suffix}")
    write_text(checklist(observations, analysis), folder / "checklist.md")


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
            dict.fromkeys([*(record.form for record in analysis.forms), *(baseline.name for baseline in BASELINES)])
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
        "Uncertainty": "Student's t over estimates of single models; models and items resampled; profile likelihood",
        "Validation": "largest size, each size, each bit-width and each family held out; coverage of intervals in "
        "forms.csv",
        "What a reader must know": "; ".join(analysis.notes) or "nothing",
        "Data and code": "all rows are in the observations table; `stratalaw fit` repeats everything from it",
    }
    rows = "\n".join(f"| {question} | {answer} |" for question, answer in answers.items())
    return f"# Checklist\n\n| question | answer |\n|---|---|\n{rows}\n"
