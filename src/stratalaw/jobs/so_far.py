"""What of a study was measured so far, read from the scores themselves: no stage after them needs to have run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stratalaw.layout import Results
from stratalaw.models.folder import ModelSize, manifest_seal, model_size
from stratalaw.observations.table import observe
from stratalaw.quantization.gptq import read_audit
from stratalaw.seals import read_table
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME, NAME_PATTERN


@dataclass(frozen=True)
class SoFar:
    """``observations``: of the variants that were measured beside their original, None if there are none; ``items``:
    the scores behind them; ``tried``: the variants that have scores, those that could not be quantized included."""

    observations: pd.DataFrame | None
    items: pd.DataFrame
    tried: set[tuple[str, str]]


def read_so_far(study: Study, results: Results) -> SoFar:
    """What was measured of the variants that a study makes itself.

    Raises:
        SealError: a file is damaged, or about something else.
    """
    strata = list(study.evaluation.strata)
    made_here = [
        (model, variant)
        for model, variant in study.variant_names()
        if variant == BASELINE_NAME or NAME_PATTERN.fullmatch(variant)
    ]
    tried = {name for name in made_here if all(results.scores(*name, stratum).exists() for stratum in strata)}
    tables = []
    audits = {}
    sizes: dict[str, ModelSize] = {}
    for model, variant in made_here:
        # Damage is told beside the original.
        if (model, variant) not in tried or (model, BASELINE_NAME) not in tried:
            continue
        parts = []
        for stratum in strata:
            about = {"model": model, "variant": variant, "stratum": stratum}
            table, _ = read_table(results.scores(model, variant, stratum), "scores", about)
            parts.append(table.assign(**about))
        if any(part.empty for part in parts):
            continue
        tables += parts
        sizes.setdefault(model, model_size(results.model(model)))
        if variant != BASELINE_NAME:
            of_model = {"model": manifest_seal(results.model(model)).digest}
            audits[model, variant] = read_audit(Path(results.checkpoint(model, variant)), of_model)
    if not tables:
        return SoFar(None, pd.DataFrame(), tried)
    items = pd.concat(tables, ignore_index=True)
    return SoFar(observe(study, sizes, audits, items), items, tried)
