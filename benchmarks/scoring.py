"""Seconds to score every item of the ladder's benchmarks, plainly and with shared prefixes, on one CPU core.

``python benchmarks/scoring.py`` prints a Markdown table; both engines run one after the other on the same requests.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from transformers import AutoTokenizer

from stratalaw.engine import plain, shared
from stratalaw.engine.batches import make_batching
from stratalaw.evaluation.harness import record_requests
from stratalaw.study import read_study

ROOT = Path(__file__).parent.parent
RUNGS = ("q3", "q5", "q8")
ENGINES = {"plain": plain.log_likelihoods, "shared": shared.log_likelihoods}
REPEATS = 3


def seconds(engine, model, requests: pd.DataFrame, limits: dict) -> tuple[float, np.ndarray]:
    """The best of some repeats, and the log-likelihoods."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        found = engine(model, requests.context.tolist(), requests.continuation.tolist(), **limits)
        times.append(time.perf_counter() - started)
    return min(times), found.total


def main() -> None:
    from transformers import AutoModelForCausalLM

    os.chdir(ROOT)
    torch.set_num_threads(1)
    evaluation = read_study(Path("config/ladder.yaml")).evaluation
    tokenizer = AutoTokenizer.from_pretrained(f"ladder/models/{RUNGS[0]}")
    limits = {"tokens_per_batch": evaluation.tokens_per_batch, "max_length": 256}
    rows = []
    for stratum in evaluation.strata:
        requests = record_requests(tokenizer, limits["max_length"], evaluation, stratum)
        batching = make_batching(requests.context.tolist(), requests.continuation.tolist(), **limits)
        for rung in RUNGS:
            model = AutoModelForCausalLM.from_pretrained(f"ladder/models/{rung}", dtype=torch.bfloat16).eval()
            times, totals = zip(*(seconds(engine, model, requests, limits) for engine in ENGINES.values()), strict=True)
            rows.append(
                {
                    "stratum": stratum,
                    "model": rung,
                    "requests": len(requests),
                    "tokens, plain": batching.plain_tokens,
                    "tokens, shared": batching.tokens,
                    "plain, s": round(times[0], 2),
                    "shared, s": round(times[1], 2),
                    "faster": round(times[0] / times[1], 2),
                    "median difference, nats": float(np.median(np.abs(totals[0] - totals[1])).round(4)),
                }
            )
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False))
    print(f"\nAll: {table['plain, s'].sum():.2f} s plain, {table['shared, s'].sum():.2f} s shared")


if __name__ == "__main__":
    main()
