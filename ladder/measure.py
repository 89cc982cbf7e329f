"""Measure every rung in bf16 with lm-eval's own model: ``python -m ladder.measure``.

What quantization does to the rungs, the study of the ladder measures. Rungs that the table already holds are not
measured again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pandas as pd

from ladder.publish import BENCHMARKS
from ladder.release import MODELS, TABLES
from ladder.rungs import RUNGS
from ladder.world import STRATA

FIRST_ITEMS = 200  # accuracy on these alone is kept too, for a quick check that a model is the documented one
METRICS = ("acc", "exact_match")


def evaluate(model_folder: Path, limit: int | None = None) -> pd.DataFrame:
    """Accuracy and standard error of a dense model on every benchmark, by lm-eval's own model and metrics.

    Columns: stratum, benchmark, accuracy, stderr, n_items, accuracy_first_items (the first 200). ``limit`` takes only
    the first items of each benchmark.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(
        pretrained=str(model_folder),
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype="bfloat16",
        softmax_dtype="float32",
        batch_size=128,
    )
    results = simple_evaluate(
        model=model,
        tasks=[f"ladder_{stratum}" for stratum in STRATA],
        task_manager=TaskManager(include_path=str(BENCHMARKS), include_defaults=False),
        limit=limit,
    )
    rows = []
    for stratum in STRATA:
        for task in results["group_subtasks"][f"ladder_{stratum}"]:
            scores = results["results"][task]
            metric = next(name for name in METRICS if f"{name},none" in scores)
            samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
            correct = [sample[metric] for sample in samples]
            rows.append(
                {
                    "stratum": stratum,
                    "benchmark": task.removeprefix("ladder_"),
                    "accuracy": scores[f"{metric},none"],
                    "stderr": scores[f"{metric}_stderr,none"],
                    "n_items": len(correct),
                    "accuracy_first_items": sum(correct[:FIRST_ITEMS]) / len(correct[:FIRST_ITEMS]),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=list(RUNGS))
    arguments = parser.parse_args()
    path = TABLES / "accuracy.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame()
    for rung in arguments.rungs:
        if table.empty or rung not in set(table.rung):
            rows = evaluate(MODELS / rung)
            table = pd.concat([table, rows.assign(rung=rung)[["rung", *rows.columns]]], ignore_index=True)
            table.to_csv(path, index=False)
            print(rung, rows.groupby("stratum", sort=False).accuracy.mean().round(3).to_dict(), flush=True)


if __name__ == "__main__":
    main()
