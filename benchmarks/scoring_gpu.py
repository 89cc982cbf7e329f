"""Seconds to score 1,000 items on a GPU: lm-eval's ``hf`` model at its best batch size against shared prefixes.

``python benchmarks/scoring_gpu.py OUT.csv 0.6B 1.7B 8B 14B``. Qwen3 shapes with random bf16 weights; both sides answer
the same requests with the same model in one process, from token ids to log-likelihoods. The floor is
2 * parameters * tokens of the batching / rate of large matrix products, measured here too.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from true_shapes import random_model, word_tokenizer, write_tasks

from stratalaw.engine import make_batching
from stratalaw.lm_eval_model import PrefixSharingModel

TOKENS_PER_BATCH = 65_536
BATCH_SIZES = (16, 32, 64)
PROBED = 64  # items that choose the batch size
MAX_LENGTH = 4096


def matmul_rate(n: int = 8192, repeats: int = 30) -> float:
    """Operations a second of bf16 products of random n x n matrices."""
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return 2 * n**3 * repeats / (time.perf_counter() - started)


def timed(kind: type, model, tokenizer, task: str, tasks: TaskManager, batch_size: int, limit: int | None = None):
    """Seconds from token ids to log-likelihoods, the log-likelihoods, accuracy, and the requests."""
    seen = {}
    own = {"tokens_per_batch": TOKENS_PER_BATCH} if kind is PrefixSharingModel else {"softmax_dtype": "float32"}

    class Timed(kind):
        def _loglikelihood_tokens(self, requests, **options):
            torch.cuda.synchronize()
            started = time.perf_counter()
            answers = super()._loglikelihood_tokens(requests, **options)
            torch.cuda.synchronize()
            seen.update(seconds=time.perf_counter() - started, requests=requests, answers=answers)
            return answers

    lm = Timed(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=MAX_LENGTH, **own)
    results = simple_evaluate(lm, tasks=[task], task_manager=tasks, limit=limit, bootstrap_iters=0, verbosity="ERROR")
    totals = np.array([total for total, _ in seen["answers"]])
    return seen["seconds"], totals, results["results"][task]["acc,none"], seen["requests"]


def seconds_of_a_probe(model, tokenizer, task: str, tasks: TaskManager, batch_size: int) -> float:
    try:
        return timed(HFLM, model, tokenizer, task, tasks, batch_size, limit=PROBED)[0]
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return float("inf")


def compare(size: str, task: str, model, tokenizer, tasks: TaskManager, rate: float) -> dict:
    probes = {size: seconds_of_a_probe(model, tokenizer, task, tasks, size) for size in BATCH_SIZES}
    for best in sorted(BATCH_SIZES, key=probes.get):
        try:
            hf, hf_totals, hf_accuracy, requests = timed(HFLM, model, tokenizer, task, tasks, best)
            break
        except torch.OutOfMemoryError:  # a probe has fewer items, and shorter ones
            torch.cuda.empty_cache()
    else:
        raise RuntimeError(f"{size}, {task}: lm-eval's hf model ran out of memory at every batch size of {BATCH_SIZES}")
    other = timed(HFLM, model, tokenizer, task, tasks, 3, limit=PROBED)[1]
    timed(PrefixSharingModel, model, tokenizer, task, tasks, 1, limit=PROBED)
    ours, our_totals, our_accuracy, _ = timed(PrefixSharingModel, model, tokenizer, task, tasks, 1)
    _, contexts, continuations = zip(*requests, strict=True)
    started = time.perf_counter()
    batching = make_batching(contexts, continuations, tokens_per_batch=TOKENS_PER_BATCH, max_length=MAX_LENGTH)
    planning = time.perf_counter() - started
    parameters = model.num_parameters() - model.get_input_embeddings().weight.numel()
    floor = 2 * parameters * batching.tokens / rate
    differences, by_batch = np.abs(our_totals - hf_totals), np.abs(other - hf_totals[: len(other)])
    return {
        "size": size,
        "task": task,
        "hf_batch_size": best,
        "hf_seconds": hf,
        "our_seconds": ours,
        "of_which_planning": planning,
        "times_faster": hf / ours,
        "plain_tokens": batching.plain_tokens,
        "batched_tokens": batching.tokens,
        "floor_seconds": floor,
        "share_of_floor": floor / (ours - planning),
        "hf_accuracy": hf_accuracy,
        "our_accuracy": our_accuracy,
        "median_difference": np.median(differences),
        "q99_difference": np.quantile(differences, 0.99),
        "median_difference_of_hf_at_batch_3": np.median(by_batch),
        "q99_difference_of_hf_at_batch_3": np.quantile(by_batch, 0.99),
        "peak_gpu_gigabytes": torch.cuda.max_memory_allocated() / 1e9,
    }


def main(out: str, sizes: list[str]) -> None:
    rate = matmul_rate()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {rate / 1e12:.0f} TFLOP/s", flush=True)
    tokenizer = word_tokenizer()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        names = write_tasks(Path(folder))
        tasks = TaskManager(include_path=folder, include_defaults=False)
        for size in sizes:
            model = random_model(size)
            for task in names:
                torch.cuda.reset_peak_memory_stats()
                rows.append(compare(size, task, model, tokenizer, tasks, rate) | {"matmul_rate": rate})
                print({name: round(v, 4) if isinstance(v, float) else v for name, v in rows[-1].items()}, flush=True)
                pd.DataFrame(rows).to_csv(out, index=False)
            del model
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
