"""What the fits can be trusted with, on data whose law is known: ``python benchmarks/laws.py >
docs/statistics-tables.md``.

Prints Markdown tables: recovery of every form, the paper's ablations and interval widths, the recognition of the true
form, and the time of a whole analysis.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from stratalaw.laws import FORMS, FitError, Form, fit_law, form_named, stratum_accuracies
from stratalaw.laws.analysis import analyse
from stratalaw.laws.fit import ILL_CONDITIONED
from stratalaw.laws.holdout import compare
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.rows import rows_of
from stratalaw.laws.simulation import grid, paper_grid, simulate

PAPER = {"A": 0.8} | EXPONENTS["general"]
FLOOR = {"A": 0.4, "alpha": -0.36}
TRUTHS = {
    "paper": PAPER,
    "paper-effective": PAPER,
    "size": {name: PAPER[name] for name in ("A", "alpha")},
    "size-bits": {name: PAPER[name] for name in ("A", "alpha", "beta")},
    "size-bits-group": {name: PAPER[name] for name in ("A", "alpha", "beta", "delta")},
    "size-bits-calibration": {name: PAPER[name] for name in ("A", "alpha", "beta", "gamma")},
    "additive": FLOOR | {"K": 4.0, "omega": -0.2, "c": 1.0, "delta": 0.25, "m": 3.0},
    "sigmoid": FLOOR | {"b": 1.2, "u": -0.15, "g": 0.15, "v": -0.03, "w": 0.5},
    "log-group": FLOOR | {"K": 2.5, "omega": -0.2, "c": 1.0, "g": 1.0},
    "exponential": FLOOR | {"K": 10.0, "omega": -0.2, "c": 1.0},
}
SIMULATIONS, SELECTIONS = 200, 50


def recovery(form: Form, estimator: str, n_items: int = 1000) -> list[dict]:
    """Bias (in standard errors of the mean) and coverage of 95 % intervals of every parameter of a form."""
    truth, values, covered, condition, failed = TRUTHS[form.name], [], [], [], 0
    for seed in range(SIMULATIONS):
        table = stratum_accuracies(simulate(form, truth, paper_grid(), seed, n_items=n_items))
        try:
            fit = fit_law(table, form, estimator=estimator)
        except FitError:
            failed += 1
            continue
        intervals = fit.conf_int()
        values.append(fit.fitted)
        covered.append([intervals.low[n] <= truth[n] <= intervals.high[n] for n in fit.params.index])
        condition.append(fit.diagnostics["condition_number"])
    values = np.array(values)
    names = [parameter.name for parameter in form.parameters]
    bias = (values.mean(0) - form.to_fitted([truth[n] for n in names])) / (values.std(0) / np.sqrt(len(values)))
    return [
        {
            "form": form.name,
            "estimator": estimator,
            "parameter": name,
            "truth": truth[name],
            "bias, standard errors": round(float(bias[i]), 1),
            "coverage, %": round(100 * float(np.mean(covered, axis=0)[i]), 1),
            "condition": round(float(np.median(condition))),
            "identified": "yes" if np.median(condition) < ILL_CONDITIONED else "no",
            "not converged": failed,
        }
        for i, name in enumerate(names)
    ]


def ablations() -> pd.DataFrame:
    """Adjusted R² of the paper's ablations on its 165 points, simulated from its exponents (general)."""
    names = ("size-bits", "size-bits-calibration", "size-bits-group", "paper")
    rows = []
    for n_items in (1000, 5000):
        quality, widths = [], []
        for seed in range(SIMULATIONS):
            table = stratum_accuracies(simulate(form_named("paper"), PAPER, paper_grid(), seed, n_items=n_items))
            fits = {name: fit_law(table, form_named(name)) for name in names}
            quality.append([fits[name].adjusted_r_squared for name in names])
            interval = fits["paper"].conf_int()
            widths.append((interval.high - interval.low)[["alpha", "beta", "gamma", "delta"]].to_numpy() / 2)
        row = {"items a point": n_items} | dict(zip(names, np.mean(quality, axis=0).round(4), strict=True))
        half = dict(zip("αβγδ", np.mean(widths, axis=0).round(4), strict=True))
        rows.append(row | {f"half width of {symbol}": width for symbol, width in half.items()})
    return pd.DataFrame(rows)


def selection(name: str, n_items: int, variants: pd.DataFrame) -> dict:
    """How often the true form has the lowest error on held-out sizes, and which other forms had it."""
    first = []
    for seed in range(SELECTIONS):
        table = stratum_accuracies(simulate(form_named(name), TRUTHS[name], variants, seed, n_items=n_items))
        first.append(compare(rows_of(table)).form[0])
    shares = pd.Series(first).value_counts(normalize=True)
    others = ", ".join(f"{form} {100 * share:.0f} %" for form, share in shares.drop(name, errors="ignore").items())
    return {
        "truth": name,
        "rows": len(variants),
        "items a row": n_items,
        "recognized, %": 100 * float(shares.get(name, 0)),
        "otherwise": others,
    }


def speed() -> str:
    """Seconds of a whole analysis: 293 variants of six sizes, six benchmarks of three strata."""
    sizes = (0.6e9, 1.7e9, 4e9, 8e9, 14e9, 32e9)
    full = grid(sizes, bits=(2, 3, 4))
    fixed = grid(sizes[:5], bits=(8,), group_sizes=(128,), calibration_sizes=(128,))
    variants = pd.concat([full, fixed], ignore_index=True)
    tables = [
        simulate(form_named("paper"), {"A": 0.6} | EXPONENTS[stratum], variants, 10 * i + j, stratum=stratum).assign(
            benchmark=f"{stratum}-{j}"
        )
        for i, stratum in enumerate(("memorization", "application", "reasoning"))
        for j in range(2)
    ]
    table = pd.concat(tables, ignore_index=True)
    table["held_out"] = table.n_params == sizes[-1]
    started = time.perf_counter()
    analyse(table)
    return (
        f"{len(variants)} rows x 6 benchmarks, 4 strata, {len(FORMS)} forms, 1,000 resamples: "
        f"{time.perf_counter() - started:.1f} s"
    )


def main() -> None:
    print("## Speed\n\n" + speed())
    rows = []
    for form in FORMS:
        rows += recovery(form, "accuracy")
        if form.name == "paper":
            for estimator in ("logarithm", "weighted-logarithm", "likelihood"):
                rows += recovery(form, estimator)
    print("\n## Recovery\n\n" + pd.DataFrame(rows).to_markdown(index=False))
    print("\n## The paper's ablations\n\n" + ablations().to_markdown(index=False))
    ladder = grid(group_sizes=(16, 32, 64, 128), calibration_sizes=(2, 8, 32, 128), bits=(3, 4, 8))
    chosen = [
        selection(name, n_items, variants)
        for name in ("additive", "paper")
        for variants in (paper_grid(), ladder)
        for n_items in (1000, 5000)
    ]
    print("\n## Selection\n\n" + pd.DataFrame(chosen).to_markdown(index=False))


if __name__ == "__main__":
    main()
