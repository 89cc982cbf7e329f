"""The observations table: accuracy of each variant of each model on each benchmark.

It is the contract between measuring and fitting; see ``COLUMNS`` for what its columns mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.models.folder import ModelSize
from stratalaw.sampling.difference import estimated_difference, known_of
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME, CALIBRATED_ON, EXISTING, MIXED

GPTQ = "GPTQ"
MOST_NAMED = 20  # variants in a note
COLUMNS = {
    "model": "name of the model",
    "family": "models of one family differ in size only",
    "held_out": "left out of the fit",
    "n_params": "parameters of the model",
    "n_params_nonembedding": "parameters without the input embedding and an untied output embedding",
    "variant": "bf16, w{bits}-g{group}-c{samples}-s{seed}, mixed-{digest}-c{samples}-s{seed} where the matrices have "
    "bits of their own; with -{mixture} at the end where one was named; or the name of a checkpoint that existed",
    "method": f"{GPTQ}; “{MIXED}” where the matrices have bits of their own; with “{CALIBRATED_ON}” and a name where a "
    f"mixture was named; of a checkpoint that existed its own, with “{EXISTING}”; missing for the baseline",
    "bits": "nominal bits of a weight; those of most weights where the matrices have bits of their own",
    "group_size": "input features that share a scale and a zero point; missing for the baseline",
    "calibration_size": "calibration samples; missing for the baseline, and where a checkpoint existed",
    "calibration_tokens": "calibration tokens; missing likewise",
    "calibration_seed": "draw of the calibration set; missing likewise",
    "calibration_mixture": "mixture that calibration samples are from; missing where they are from the study's corpus",
    "effective_bits": "stored bits of a quantized weight, scales and zero points included",
    "stratum": "memorization, application or reasoning",
    "benchmark": "task of lm-eval",
    "accuracy": "share of correct answers",
    "chance": "accuracy of guessing",
    "n_items": "items behind the accuracy: those of the benchmark, or as many of them as were asked",
    "stderr": "standard error of the accuracy over items, by those that were not asked too",
    "accuracy_adjusted": "(accuracy - chance) / (1 - chance)",
    "paired_difference": "accuracy minus that of the baseline, by the items that both answered",
    "paired_stderr": "standard error of the paired difference",
}

CAPTION = (
    "One row for each variant of each model on each benchmark: accuracy with its standard error over items, the "
    "accuracy adjusted for chance, and the difference to bf16 on the same items. Effective bits count scales and zero "
    "points."
)


def observe(
    study: Study,
    sizes: Mapping[str, ModelSize],
    audits: Mapping[tuple[str, str], Mapping[str, Any]],
    items: pd.DataFrame,
) -> pd.DataFrame:
    """Build the observations table.

    Args:
        study: names the models, variants and benchmarks.
        sizes: the size of each model.
        audits: the audit of each quantized (model, variant); ``effective_bits`` and ``calibration_tokens`` are used.
        items: one row for each item that was asked: model, variant, stratum, task, document, score; with gap, where not
            all were (see ``sampling.difference.differences_of``).

    Where a variant was asked some items only, its difference from the baseline is estimated from them, and its accuracy
    is that of the baseline on all items plus the difference.

    Raises:
        ValueError: a benchmark was answered on other items than by the baseline, which the study does not ask for, or a
            score lies outside of 0 to 1.
    """
    if not (impossible := items[(items.score < 0) | (items.score > 1)]).empty:
        row = impossible.iloc[0]
        where = f"{row.model}/{row.variant}, {row.task}, item {row.document}"
        raise ValueError(f"{where}: a score of {row.score:g}; a share of right answers lies between 0 and 1")
    table_of = partial(items.pivot, index=["stratum", "task", "document"], columns=["model", "variant"])
    scores, gaps = table_of(values="score"), table_of(values="gap") if "gap" in items else None
    benchmarks = [(stratum, benchmark) for stratum, members in study.evaluation.strata.items() for benchmark in members]
    rows = []
    for variant in study.variants().to_dict("records"):
        model, name = variant["model"], variant["variant"]
        if (model, name) not in scores:
            continue
        is_baseline = name == BASELINE_NAME
        audit = {} if is_baseline else audits[model, name]
        about = variant | {
            **vars(sizes[model]),
            "method": None if is_baseline else method_of(audit, variant["calibration_mixture"]),
            "bits": BASELINE_BITS if is_baseline else audit.get("bits", variant["bits"]),
            "group_size": audit.get("group_size", variant["group_size"]),
            "calibration_tokens": audit.get("calibration_tokens"),
            "effective_bits": audit.get("effective_bits", float(BASELINE_BITS)),
        }
        for stratum, benchmark in benchmarks:
            of_task = scores.xs((stratum, benchmark.task))
            of_variant, of_baseline = of_task[model, name], of_task[model, BASELINE_NAME]
            if study.evaluation.paired_stderr is not None and of_variant.count() < of_baseline.count():
                gap = None if gaps is None else gaps.xs((stratum, benchmark.task))[model, BASELINE_NAME]
                measured = estimated_from_some(of_variant, of_baseline, gap, benchmark.chance)
            else:
                measured = accuracy_of(of_variant, benchmark.chance)
                measured |= paired_with(of_variant, of_baseline, f"{model}/{name}: {benchmark.task}")
            rows.append(
                {**about, "stratum": stratum, "benchmark": benchmark.task, "chance": benchmark.chance} | measured
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    integers = ("bits", "group_size", "calibration_size", "calibration_tokens", "calibration_seed")
    return table.astype(dict.fromkeys(integers, "Int64") | {"calibration_mixture": "string"})


def method_of(audit: Mapping[str, Any], mixture: Any) -> str:
    """The method of a variant: another mixture of corpora is another one, so that no law takes two for one."""
    method = str(audit.get("method", GPTQ))
    return method if pd.isna(mixture) else f"{method}{CALIBRATED_ON}{mixture}"


def of_grids(observations: pd.DataFrame) -> pd.DataFrame:
    """The rows of the originals and of the variants of the grids, of which laws, figures and pages speak: not of mixed
    bits, of mixtures of corpora, nor of checkpoints that existed."""
    return observations[observations.method.isna() | (observations.method == GPTQ)]


def left_out_note(observations: pd.DataFrame) -> list[str]:
    """Which variants are left out of the laws, as one sentence; none where there are none."""
    others = observations.drop(of_grids(observations).index)
    names = list(dict.fromkeys(f"{row.model}/{row.variant} ({row.method})" for row in others.itertuples()))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    shown = ", ".join(names[:MOST_NAMED])
    return [f"compared with their originals, and left out of the laws: {shown}{more}"] if names else []


def standard_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean of independent values; not a number for a single one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def accuracy_of(scores: pd.Series, chance: float) -> dict[str, float]:
    """Accuracy over items, its standard error, and the accuracy adjusted for chance."""
    answered = scores.dropna().to_numpy()
    accuracy = float(answered.mean())
    return {
        "accuracy": accuracy,
        "n_items": len(answered),
        "stderr": standard_error(answered),
        "accuracy_adjusted": (accuracy - chance) / (1 - chance),
    }


def estimated_from_some(
    scores: pd.Series, baseline: pd.Series, gap: pd.Series | None, chance: float
) -> dict[str, float]:
    """What ``accuracy_of`` and ``paired_with`` say, from some of the items; ``gap``: of the baseline, if known."""
    original = pd.DataFrame({"score": baseline} if gap is None else {"score": baseline, "gap": gap})
    original = original.dropna(subset="score")
    answered = scores.dropna().to_numpy(float)
    found = estimated_difference((scores[original.index] - original.score).to_numpy(float), known_of(original))
    accuracy = float(np.clip(original.score.mean() + found.mean, 0, 1))
    return {
        "accuracy": accuracy,
        "n_items": found.asked,
        "stderr": float(np.sqrt(np.var(answered, ddof=1) / found.items + found.left_out)),
        "accuracy_adjusted": (accuracy - chance) / (1 - chance),
        "paired_difference": found.mean,
        "paired_stderr": found.stderr,
    }


def paired_with(scores: pd.Series, baseline: pd.Series, name: str) -> dict[str, float]:
    """Mean difference to the baseline on the same items, and its standard error."""
    if (scores.isna() != baseline.isna()).any():
        raise ValueError(f"{name}: not the same items as the baseline's")
    difference = (scores - baseline).dropna().to_numpy()
    return {"paired_difference": float(difference.mean()), "paired_stderr": standard_error(difference)}
