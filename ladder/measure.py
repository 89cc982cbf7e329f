"""Measure the ladder with lm-eval: ``python -m ladder.measure accuracy`` and ``python -m ladder.measure damage``.

``accuracy`` evaluates every rung in bf16; ``damage`` quantizes every rung with GPTQ and evaluates what is left. Rows
that the table already holds are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ladder.publish import BENCHMARKS, CALIBRATION
from ladder.release import MODELS, TABLES
from ladder.rungs import RUNGS
from ladder.world import STRATA

FIRST_ITEMS = 200  # accuracy on these alone is kept too, for a quick check that a model is the documented one
BASELINE = {"bits": 16, "group_size": 0, "calibration_size": 0}
VARIANTS = (
    {"bits": 8, "group_size": 128, "calibration_size": 128},
    {"bits": 4, "group_size": 128, "calibration_size": 128},
    {"bits": 3, "group_size": 128, "calibration_size": 128},
    {"bits": 3, "group_size": 16, "calibration_size": 128},
    {"bits": 2, "group_size": 128, "calibration_size": 128},
    {"bits": 2, "group_size": 16, "calibration_size": 128},
)


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
            samples = sorted(results["samples"][task], key=lambda sample: sample["doc_id"])
            correct = [sample["acc"] for sample in samples]
            rows.append(
                {
                    "stratum": stratum,
                    "benchmark": task.removeprefix("ladder_"),
                    "accuracy": scores["acc,none"],
                    "stderr": scores["acc_stderr,none"],
                    "n_items": len(correct),
                    "accuracy_first_items": sum(correct[:FIRST_ITEMS]) / len(correct[:FIRST_ITEMS]),
                }
            )
    return pd.DataFrame(rows)


def evaluate_variant(rung: str, variant: dict[str, int]) -> pd.DataFrame:
    """Quantize a rung as the variant says, and evaluate it as a dense bf16 model."""
    if variant == BASELINE:
        return evaluate(MODELS / rung)
    from transformers import AutoTokenizer

    from stratalaw.evaluation.answers import load_dense
    from stratalaw.quantization.gptq import quantize
    from stratalaw.study import Gptq
    from stratalaw.study.variants import Quantization

    tokenizer = AutoTokenizer.from_pretrained(MODELS / rung, trust_remote_code=False)
    texts = [json.loads(line)["text"] for line in CALIBRATION.read_text().splitlines()]
    calibration = [tokenizer(text)["input_ids"] for text in texts[: variant["calibration_size"]]]
    with tempfile.TemporaryDirectory() as name:
        packed, dense = Path(name) / "packed", Path(name) / "dense"
        quantize(MODELS / rung, packed, Quantization(**variant, calibration_seed=0), calibration, Gptq())
        load_dense(packed, "cpu").save_pretrained(dense)
        tokenizer.save_pretrained(dense)
        return evaluate(dense)


def missing(table: pd.DataFrame, rungs: list[str], variants) -> Iterator[tuple[str, dict[str, int]]]:
    """The rungs and variants that the table has no row for."""
    columns = ["rung", *BASELINE]
    measured = set(map(tuple, table[columns].itertuples(index=False))) if len(table) else set()
    for rung in rungs:
        for variant in variants:
            if (rung, *variant.values()) not in measured:
                yield rung, variant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("accuracy", "damage"))
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=list(RUNGS))
    arguments = parser.parse_args()
    path = TABLES / f"{arguments.what}.csv"
    variants = (BASELINE,) if arguments.what == "accuracy" else VARIANTS
    table = pd.read_csv(path) if path.exists() else pd.DataFrame()
    for rung, variant in missing(table, arguments.rungs, variants):
        rows = evaluate_variant(rung, variant).assign(rung=rung, **variant)
        table = pd.concat([table, rows[["rung", *BASELINE, *rows.columns[: -1 - len(BASELINE)]]]], ignore_index=True)
        table.to_csv(path, index=False)
        print(rung, variant, rows.groupby("stratum", sort=False).accuracy.mean().round(3).to_dict(), flush=True)


if __name__ == "__main__":
    main()
