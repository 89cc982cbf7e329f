"""What laws, verdicts and predictions can be trusted with: ``python benchmarks/laws.py [PART ...]``

Prints Markdown tables. On tables: ``held-out TABLE ...`` (errors of laws and of rules without a law, each size held out
in turn) and ``coverage TABLE ...`` (of predictions for a size and for a bit-width that were left out). On data whose
truth is known: ``null`` (wrong verdicts where nothing holds on average), ``power`` (decisions by number of models),
``intervals`` (coverage of t over models), ``recovery`` (of every form), ``ablations``, ``recognition``, ``speed``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.laws import FORMS, FitError, Form, fit_law, form_named, read_observations, stratum_accuracies
from stratalaw.laws.analysis import analyse, comparison_rows, measured_rows, with_utilization
from stratalaw.laws.comparison import EACH_SIZE
from stratalaw.laws.exponents import DAMAGE, Panel, exponents_of_models, mean_over_models
from stratalaw.laws.fit import ILL_CONDITIONED
from stratalaw.laws.holdout import compare
from stratalaw.laws.intervals import used_rows
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.rows import rows_of
from stratalaw.laws.scatter import scatter_of
from stratalaw.laws.simulation import grid, paper_grid, simulate
from stratalaw.laws.table import GENERAL, UTILIZATION
from stratalaw.laws.verdicts import CONTRADICTED, SUPPORTED, Verdict, at_least, judge_margins, margins_of
from stratalaw.planning.prediction import Predictor
from stratalaw.study.variants import BASELINE_BITS

PAPER = {"A": 0.8} | EXPONENTS["general"]
FLOOR = {"A": 0.4, "alpha": -0.36}
DAMAGE_LAW = {"A": 0.2, "alpha": -0.2, "c": 1.5, "gamma": -0.1, "delta": 0.45}
TRUTHS = {
    "paper": PAPER,
    "paper-effective": PAPER,
    "anchored": DAMAGE_LAW,
    "anchored-effective": DAMAGE_LAW,
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
SHOWN = ("paper", "anchored", "anchored-effective", "share-smaller", "share-nearest", "share-mean", "size-bits-table")
MODELS = (5, 8, 12, 40)
STUDIES = 400
STRATA = ("memorization", "application", "reasoning")
DAMAGE_TRUTH = {"c": 1.5, "gamma": -0.1, "delta": 0.45}
SPREADS = {"c": 0.25, "gamma": 0.05, "delta": 0.08, "level": 0.4, "original": 0.25}  # between models, of ln D
BITS, GROUPS, SAMPLES = (2, 3, 4), (16, 128), (2, 8, 32, 128)


def held_out(path: Path) -> pd.DataFrame:
    """Mean absolute error in points for each size held out in turn, by stratum."""
    accuracies = stratum_accuracies(read_observations(path))
    forms = [form for form in FORMS if form.name in SHOWN]
    rows = {}
    for stratum in accuracies.stratum.unique():
        compared = compare(comparison_rows(accuracies, stratum), forms)
        rows[stratum] = {record.form: round(100 * record.error(EACH_SIZE), 1) for record in compared}
    table = pd.DataFrame(rows).T
    return table[[name for name in SHOWN if name in table]].rename_axis(path.stem).reset_index()


def coverage(path: Path) -> pd.DataFrame:
    """Coverage of 95 % prediction intervals, their mean width and the mean absolute error in points of accuracy.

    A size is left out with its original known, as a user has it, and with its original predicted as well; a bit-width
    with all models in the study.
    """
    accuracies = stratum_accuracies(read_observations(path)).assign(held_out=False)
    rows = []
    for stratum in accuracies.stratum.unique():
        table, _ = used_rows(accuracies, stratum, keep_collapsed=True)
        table = table[table.baseline_loss.notna()]
        for left_out, column, known in (
            ("size", "n_params", True),
            ("size, original not known", "n_params", False),
            ("bit-width", "bits", True),
        ):
            found = pd.concat(
                [
                    part
                    for value in np.unique(table[column])
                    for part in _predicted(
                        accuracies[accuracies[column] != value], table[table[column] == value], stratum, column, known
                    )
                ]
            )
            inside = (found.low <= found.truth) & (found.truth <= found.high)
            rows.append(
                {
                    path.stem: stratum,
                    "left out": left_out,
                    "rows": len(found),
                    "coverage, %": round(100 * inside.mean(), 1),
                    "width": round(100 * (found.high - found.low).mean(), 1),
                    "error": round(100 * (found.accuracy - found.truth).abs().mean(), 1),
                }
            )
    return pd.DataFrame(rows)


def _predicted(rest: pd.DataFrame, out: pd.DataFrame, stratum: str, column: str, known: bool) -> Iterator[pd.DataFrame]:
    """What a study without some rows predicts of them."""
    law = fit_law(rest, form_named("anchored"), stratum, "accuracy")
    table, _ = used_rows(rest, stratum, keep_collapsed=True)
    measured = measured_rows(rest)
    scatter = scatter_of(law, table, rest[rest.stratum == stratum])
    predictor = Predictor(law, scatter, measured[measured.stratum == stratum])
    natural = lambda adjusted: law.chance + (1 - law.chance) * adjusted  # noqa: E731
    for _, part in out.groupby("model"):
        original = natural(part.baseline_adjusted.iloc[0]) if known and column == "n_params" else None
        yield predictor.predict(part, 0.95, original).assign(truth=natural(part.accuracy_adjusted))


def simulated_panel(models: int, studies: int, seed: int, effects: bool = True, items: int = 1000) -> Panel:
    """Studies of models whose exponents scatter, as the draws of one panel; without ``effects`` group and calibration
    size do nothing on average.

    Strata share the means of their exponents in either case, and sizes do not matter, so that the claims that compare
    strata are false, with margins of zero.
    """
    settings = pd.DataFrame(list(product(BITS, GROUPS, SAMPLES)), columns=["bits", "group_size", "calibration_size"])
    bits, group, samples = settings.to_numpy(float).T
    rng = np.random.default_rng([seed, models])
    tables, accuracies = [], {}
    for stratum in STRATA:
        parts = []
        for place in range(models):
            own = {name: value + SPREADS[name] * rng.normal(size=(studies, 1)) for name, value in DAMAGE_TRUTH.items()}
            if not effects:
                own |= {name: own[name] - DAMAGE_TRUTH[name] for name in ("gamma", "delta")}
            level = np.log(0.25) + SPREADS["level"] * rng.normal(size=(studies, 1))
            original = np.exp(-0.4 * np.exp(SPREADS["original"] * rng.normal(size=(studies, 1))))
            ln_damage = level - own["c"] * (bits - 3) + own["delta"] * np.log(group / 45)
            ln_damage = ln_damage + own["gamma"] * np.log(samples / 16)
            true = np.concatenate([original * np.exp(-np.exp(ln_damage)), original], axis=1)
            parts.append((rng.binomial(items, 0.25 + 0.75 * true) / items - 0.25) / 0.75)
            original_row = pd.DataFrame([{"bits": 16}])
            about = {"model": f"m{place}", "n_params": 1e9 * 1.5**place, "stratum": stratum}
            tables.append(pd.concat([settings, original_row], ignore_index=True).assign(**about))
        accuracies[stratum] = np.concatenate(parts, axis=1)
    pooled = (accuracies["application"] + accuracies["reasoning"]) / 2
    accuracies |= {GENERAL: np.mean([accuracies[name] for name in STRATA], axis=0), UTILIZATION: pooled}
    table = pd.concat(tables, ignore_index=True).assign(accuracy=0.5, chance=0.25, n_items=items)
    observed = Panel.observed(with_utilization(table))
    return Panel(observed.tables, accuracies)


def verdicts_on(panel: Panel) -> Iterator[list[Verdict]]:
    """The verdicts on each study of a panel."""
    margins, reasons = margins_of(panel)
    for study in range(panel.draws):
        yield judge_margins(margins, reasons, panel.models, {}, draw=study)


def null() -> pd.DataFrame:
    """Shares of studies that support and that contradict each claim, in percent, where group and calibration size do
    nothing on average and strata do not differ; and how often the bound on the number of claims is too high."""
    rows = []
    for models in MODELS:
        decided, too_many = [], 0
        for judged in verdicts_on(simulated_panel(models, STUDIES, seed=1, effects=False)):
            decided.append({verdict.claim: verdict.verdict for verdict in judged})
            # The phase is the only claim whose truth is not a margin of zero.
            too_many += at_least([verdict for verdict in judged if verdict.claim != "phase"]) > 0
        table = pd.DataFrame(decided).drop(columns="phase")
        both = (SUPPORTED, CONTRADICTED)
        shares = {claim: " / ".join(f"{100 * (table[claim] == one).mean():.1f}" for one in both) for claim in table}
        shares["any of them"] = " / ".join(f"{100 * (table == one).any(axis=1).mean():.1f}" for one in both)
        rows.append({"models": models} | shares | {"bound too high": f"{100 * too_many / STUDIES:.1f}"})
        print(rows[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(rows).set_index("models").T.reset_index(names="supported / contradicted, %")


def power() -> pd.DataFrame:
    """Shares of studies that support claims which hold, in percent, by number of models."""
    rows = []
    for models in (3, 4, 5, 6, 8, 12, 20):
        panel = simulated_panel(models, STUDIES, seed=2)
        decided = pd.DataFrame([{v.claim: v.verdict == SUPPORTED for v in judged} for judged in verdicts_on(panel)])
        shares = (100 * decided[["group", "group-low-bits", "calibration-low-bits", "diminishing"]].mean()).round(0)
        rows.append({"models": models} | shares.astype(int).to_dict())
        print(rows[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def intervals() -> pd.DataFrame:
    """Coverage of 95 % t intervals over models for the damage exponents, in percent."""
    rows = []
    for models in MODELS:
        panel, inside = simulated_panel(models, STUDIES, seed=3), {}
        for name, truth in DAMAGE_TRUTH.items():
            values = [exponents_of_models(panel, stratum, DAMAGE)[name] for stratum in STRATA]
            bounds = np.array([mean_over_models(study).interval() for study in np.concatenate(values)])
            inside[name] = round(100 * ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean(), 1)
        rows.append({"models": models} | inside)
        print(rows[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def variants_for(form: Form, variants: pd.DataFrame, seed: int) -> pd.DataFrame:
    """For anchored forms with the originals' losses, which scatter around a power law of the size."""
    if not form.is_anchored:
        return variants
    size, model = np.unique(variants.n_params, return_inverse=True)
    scatter = np.exp(SPREADS["original"] * np.random.default_rng([seed, 1]).normal(size=len(size)))
    return variants.assign(baseline_loss=(FLOOR["A"] * (size / 4e9) ** FLOOR["alpha"] * scatter)[model])


def recovery(form: Form, estimator: str, n_items: int = 1000) -> list[dict]:
    """Bias (in standard errors of the mean) and coverage of 95 % intervals of every parameter of a form."""
    truth, values, covered, condition, failed = TRUTHS[form.name], [], [], [], 0
    for seed in range(SIMULATIONS):
        table = stratum_accuracies(simulate(form, truth, variants_for(form, paper_grid(), seed), seed, n_items=n_items))
        try:
            fit = fit_law(table, form, estimator=estimator)
        except FitError:
            failed += 1
            continue
        bounds = fit.conf_int()
        values.append(fit.fitted)
        covered.append([bounds.low[n] <= truth[n] <= bounds.high[n] for n in fit.params.index])
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


def recoveries() -> pd.DataFrame:
    rows = []
    for form in (form for form in FORMS if form.name in TRUTHS):
        rows += recovery(form, "accuracy")
        if form.name == "paper":
            for estimator in ("logarithm", "weighted-logarithm", "likelihood"):
                rows += recovery(form, estimator)
    return pd.DataFrame(rows)


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
        row = {"items per point": n_items} | dict(zip(names, np.mean(quality, axis=0).round(4), strict=True))
        half = dict(zip("αβγδ", np.mean(widths, axis=0).round(4), strict=True))
        rows.append(row | {f"half width of {symbol}": width for symbol, width in half.items()})
    return pd.DataFrame(rows)


def recognition(name: str, n_items: int, variants: pd.DataFrame) -> dict:
    """How often the true form has the lowest error on held-out sizes, and which other forms had it."""
    first = []
    for seed in range(SELECTIONS):
        form = form_named(name)
        table = stratum_accuracies(
            simulate(form, TRUTHS[name], variants_for(form, variants, seed), seed, n_items=n_items)
        )
        first.append(compare(rows_of(table[table.bits < BASELINE_BITS]))[0].form)
    shares = pd.Series(first).value_counts(normalize=True)
    others = ", ".join(f"{form} {100 * share:.0f} %" for form, share in shares.drop(name, errors="ignore").items())
    return {
        "truth": name,
        "rows": len(variants),
        "items per row": n_items,
        "recognized, %": 100 * float(shares.get(name, 0)),
        "otherwise": others,
    }


def recognitions() -> pd.DataFrame:
    ladder = grid(group_sizes=(16, 32, 64, 128), calibration_sizes=(2, 8, 32, 128), bits=(3, 4, 8))
    return pd.DataFrame(
        [
            recognition(name, n_items, variants)
            for name in ("additive", "paper", "anchored")
            for variants in (paper_grid(), ladder)
            for n_items in (1000, 5000)
        ]
    )


def speed() -> pd.DataFrame:
    """Seconds of a whole analysis: 293 variants of six sizes, six benchmarks of three strata."""
    sizes = (0.6e9, 1.7e9, 4e9, 8e9, 14e9, 32e9)
    full = grid(sizes, bits=(2, 3, 4))
    fixed = grid(sizes[:5], bits=(8,), group_sizes=(128,), calibration_sizes=(128,))
    variants = pd.concat([full, fixed], ignore_index=True)
    tables = [
        simulate(form_named("paper"), {"A": 0.6} | EXPONENTS[stratum], variants, 10 * i + j, stratum=stratum).assign(
            benchmark=f"{stratum}-{j}"
        )
        for i, stratum in enumerate(STRATA)
        for j in range(2)
    ]
    table = pd.concat(tables, ignore_index=True)
    table["held_out"] = table.n_params == sizes[-1]
    started = time.perf_counter()
    analyse(table)
    seconds = round(time.perf_counter() - started, 1)
    return pd.DataFrame([{"variants": len(variants), "forms": len(FORMS), "resamples": 1000, "seconds": seconds}])


SIMULATED = {
    "null": null,
    "power": power,
    "intervals": intervals,
    "recovery": recoveries,
    "ablations": ablations,
    "recognition": recognitions,
    "speed": speed,
}


def main(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] in ("held-out", "coverage"):
        measure = held_out if arguments[0] == "held-out" else coverage
        for path in map(Path, arguments[1:]):
            print(measure(path).to_markdown(index=False) + "\n", flush=True)
        return
    for name in arguments or SIMULATED:
        print(f"## {name}\n\n{SIMULATED[name]().to_markdown(index=False)}\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
