"""Peaks of GPU memory of the jobs, each in a process of its own: what ``stratalaw.cost.memory`` is checked against.

``python benchmarks/memory_gpu.py OUT.csv 1.7B 8B 32B``. Qwen3 shapes with random weights and a few layers: peaks beyond
the weights do not depend on the number of layers. Appends rows to the table: the job, the shape, its parameters, the
calibration samples or the tokens per batch, and the peak in bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from true_shapes import VOCABULARY, random_model, word_tokenizer

LAYERS = 2
TOKENS = 2048
SAMPLES = (128, 1024)
TOKENS_PER_BATCH = (16_384, 65_536)
VARIANT = "w4-g128-c{samples}-s0"


def make_model(size: str, folder: Path) -> None:
    """A model of a shape with few layers, as the first stage leaves it."""
    from stratalaw.models.folder import write_manifest

    random_model(size, n_layers=LAYERS).save_pretrained(folder, max_shard_size="1GB")
    word_tokenizer().save_pretrained(folder)
    write_manifest(folder)


def quantize_model(folder: Path, samples: int) -> None:
    from stratalaw.quantization import gptqmodel_patches
    from stratalaw.quantization.gptq import quantize
    from stratalaw.study import Gptq
    from stratalaw.study.variants import Quantization

    calibration = np.random.default_rng(0).integers(VOCABULARY, size=(samples, TOKENS)).tolist()
    quantization = Quantization.from_name(VARIANT.format(samples=samples))
    # What is kept where memory happens to be free is not what the job needs.
    with patch.object(gptqmodel_patches, "passes_from_kept_activations", nullcontext):
        quantize(folder, folder.parent / quantization.name, quantization, calibration, Gptq(), "cuda")


def load(folder: Path) -> torch.nn.Module:
    from stratalaw.evaluation.answers import load_dense

    return load_dense(folder, "cuda")


def answer(folder: Path, tokens_per_batch: int) -> None:
    from stratalaw.engine import log_likelihoods

    rng = np.random.default_rng(0)
    items = 2 * tokens_per_batch // 500
    contexts = [context for context in rng.integers(VOCABULARY, size=(items, 400)).tolist() for _ in range(4)]
    continuations = rng.integers(VOCABULARY, size=(4 * items, 25)).tolist()
    log_likelihoods(load(folder), contexts, continuations, tokens_per_batch=tokens_per_batch, max_length=4096)


def measure(job: str, folder: str, amount: str) -> None:
    """In a process of its own: perform a job and print its peak."""
    {"load": lambda: load(Path(folder)), "answer": lambda: answer(Path(folder), int(amount))}.get(
        job, lambda: quantize_model(Path(folder), int(amount))
    )()
    print(json.dumps([torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()]))


def peak_of(job: str, folder: Path, amount: int) -> tuple[int, int]:
    """Bytes allocated and reserved at the peak of a job."""
    command = [sys.executable, __file__, "--measure", job, str(folder), str(amount)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    allocated, reserved = json.loads(done.stdout.splitlines()[-1])
    return allocated, reserved


def main(out: str, sizes: list[str]) -> None:
    from stratalaw.models.shapes import shapes_of_weights

    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / size
            make_model(size, folder)
            torch.cuda.empty_cache()
            shapes = shapes_of_weights(folder)
            packed = folder.parent / VARIANT.format(samples=SAMPLES[0])
            jobs = [("checkpoints", folder, samples) for samples in SAMPLES]
            jobs += [("load", folder, 0), ("load", packed, 0)]
            jobs += [("answer", folder, tokens) for tokens in TOKENS_PER_BATCH]
            for job, source, amount in jobs:
                allocated, reserved = peak_of(job, source, amount)
                about = {"device": torch.cuda.get_device_name(), "job": job, "shape": size, "packed": source == packed}
                numbers = {"n_layers": LAYERS, "n_params": shapes.n_params, "n_quantized": shapes.n_quantized}
                rows.append(about | numbers | {"amount": amount, "allocated": allocated, "reserved": reserved})
                print(rows[-1], flush=True)
                pd.DataFrame(rows).to_csv(out, index=False)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(*sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2:])
