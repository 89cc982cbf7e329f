"""A whole study as a table: what was measured as it was measured, the rest as the surface expects it, marked apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from stratalaw.laws.surface import ABOUT, MEASURED, PREDICTED, Surface, surface_rows, with_originals
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME

LEVEL = 0.95
COLUMNS = {
    "model": "name of the model",
    "variant": "bf16, or the name of a quantized one, as in `observations.csv`",
    "bits": "nominal bits of a weight; of most weights, where matrices have bits of their own",
    "group_size": "input features that share a scale; of most weights likewise",
    "calibration_size": "calibration samples",
    "stratum": "stratum of knowledge",
    "kind": f"{MEASURED}, or {PREDICTED} from the variants that were",
    "accuracy": "mean over the stratum's benchmarks; of a predicted variant what measuring it is expected to give",
    "low": f"end of the interval ({LEVEL:.0%}): of a measured variant by its items, of a predicted one of what "
    "measuring it would give",
    "high": "the other end",
    "n_items": "items behind the number; missing where it is predicted",
}

HOW_PREDICTED = (
    "Every variant in each stratum. What was measured stands as it was measured, with the interval of its items and "
    "their number (``n_items``). What was not is predicted from what was, ``kind`` says so: the anchored law and a "
    f"Gaussian process on what it misses, with {LEVEL:.0%} intervals of what measuring it would give."
)


def cells_of_study(study: Study, measured: pd.DataFrame, sizes: Mapping[str, float]) -> pd.DataFrame:
    """One row for each variant that is made here (and each original) in each stratum.

    Columns: those of ``surface.ABOUT``, stratum, chance, and of what was measured accuracy_adjusted, stderr, n_items
    and original (see ``surface.surface_rows``), missing where it was not.

    Args:
        study: its variants and strata.
        measured: rows as ``surface_rows`` gives them.
        sizes: parameters of each model; models without are left out.
    """
    variants = study.variants()
    # As laws, it knows neither mixed bits nor mixtures of corpora.
    known = variants.bits.notna() & variants.calibration_mixture.isna()
    variants = variants[(variants.variant == BASELINE_NAME) | known]
    variants = variants[variants.model.isin(sizes)]
    table = variants.assign(
        n_params=variants.model.map(sizes).astype(float),
        bits=variants.bits.astype(float).fillna(BASELINE_BITS),
        group_size=variants.group_size.astype(float),
        calibration_size=variants.calibration_size.astype(float),
    )[list(ABOUT)]
    strata = [
        {"stratum": name, "chance": float(np.mean([benchmark.chance for benchmark in members]))}
        for name, members in study.evaluation.strata.items()
    ]
    cells = table.merge(pd.DataFrame(strata), how="cross")
    found = measured[["model", "variant", "stratum", "accuracy_adjusted", "stderr", "n_items"]]
    cells = cells.merge(found, on=["model", "variant", "stratum"], how="left")
    return with_originals(cells, measured)


def whole_study(
    observations: pd.DataFrame, study: Study | None = None, not_run: Collection[tuple[str, str]] = ()
) -> pd.DataFrame:
    """Every variant in each stratum, as measured or as predicted; columns as in ``COLUMNS``.

    Args:
        observations: what was measured, by one method.
        study: its variants.
        not_run: variants, by model and name, that are predicted if their model's original was measured. Others without
            observations were tried, and cannot be quantized.
    """
    measured = surface_rows(observations)
    sizes = {str(model): float(size) for model, size in measured.groupby("model").n_params.first().items()}
    cells = measured if study is None else cells_of_study(study, measured, sizes)
    is_measured = cells.accuracy_adjusted.notna()
    half = stats.norm.ppf((1 + LEVEL) / 2) * cells.stderr.fillna(0)
    found = cells.assign(
        kind=np.where(is_measured, MEASURED, PREDICTED),
        adjusted=cells.accuracy_adjusted,
        low=cells.accuracy_adjusted - half,
        high=cells.accuracy_adjusted + half,
    )
    was_not_run = pd.MultiIndex.from_frame(cells[["model", "variant"]]).isin(list(not_run))
    missing = found[~is_measured & was_not_run & cells.original.notna()]
    if len(missing):
        predicted = Surface.fit(measured).predict(missing, LEVEL)
        found.loc[missing.index, ["adjusted", "low", "high"]] = predicted[["mean", "low", "high"]].to_numpy()
    found = found[found.adjusted.notna()].reset_index(drop=True)
    natural = {
        name: (found.chance + (1 - found.chance) * found[column]).clip(0, 1)
        for name, column in (("accuracy", "adjusted"), ("low", "low"), ("high", "high"))
    }
    return found.assign(**natural)[list(COLUMNS)]


def predicted_note(variants: pd.DataFrame) -> list[str]:
    """That some variants were predicted, not measured, as one sentence; none where there are none."""
    predicted = variants[variants.kind == PREDICTED]
    if predicted.empty:
        return []
    count = len(predicted[["model", "variant"]].drop_duplicates())
    half = 50 * (predicted.high - predicted.low).mean()
    return [
        f"predicted from the variants that were measured, not measured: {count} variants, within ±{half:.1f} points on "
        "average (variants.csv, where kind tells them apart)"
    ]
