"""Seconds by stage to quantize and evaluate one variant on a GPU: this pipeline, and the plain way.

``python benchmarks/variant_gpu.py OUT.csv 1.7B/128 8B/128 …`` (size/calibration samples; ``plain:`` before it for both
ways). Qwen3 shapes with random weights, 4 bits, groups of 128, samples of 2,048 tokens, two tasks of 1,000 items. The
plain way is gptqmodel with the same options, then lm-eval's ``hf`` model on the packed checkpoint (Triton kernel).
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from true_shapes import VOCABULARY, random_model, word_tokenizer, write_tasks

from stratalaw.evaluation import load_dense
from stratalaw.lm_eval_model import PrefixSharingModel
from stratalaw.quantization import AUDIT, quantize
from stratalaw.study import Gptq
from stratalaw.variants import Quantization

TOKENS = 2048
OPTIONS = Gptq(threads=8)


class Stages:
    """Seconds of each stage of one way."""

    def __init__(self, **about) -> None:
        self.row = about

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        yield
        torch.cuda.synchronize()
        self.row[f"{name}_seconds"] = round(time.perf_counter() - started, 2)
        self.row[f"{name}_gpu_gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        print(self.row["way"], self.row["size"], name, self.row[f"{name}_seconds"], flush=True)
        gc.collect()
        torch.cuda.empty_cache()


def evaluate(lm, tasks: TaskManager, names) -> dict[str, float]:
    results = simple_evaluate(lm, tasks=list(names), task_manager=tasks, bootstrap_iters=0, verbosity="ERROR")
    return {name: results["results"][name]["acc,none"] for name in names}


def ours(model: Path, calibration, tasks: TaskManager, names, folder: Path, size: str) -> tuple[dict, Path]:
    stages = Stages(way="ours", size=size, samples=len(calibration))
    checkpoint = folder / Quantization(4, 128, len(calibration), 0).name
    with stages("quantize"):
        quantize(model, checkpoint, Quantization.from_name(checkpoint.name), calibration, OPTIONS, "cuda")
    with stages("load"):
        dense = load_dense(checkpoint, "cuda")
    with stages("evaluate"):
        lm = PrefixSharingModel(pretrained=dense, tokenizer=word_tokenizer(), tokens_a_batch=65_536, max_length=4096)
        stages.row |= evaluate(lm, tasks, names)
    return stages.row, checkpoint


def plain(model: Path, calibration, tasks: TaskManager, names, folder: Path, size: str) -> tuple[dict, list[float]]:
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    stages = Stages(way="plain", size=size, samples=len(calibration))
    config = QuantizeConfig(
        **{"bits": 4, "group_size": 128, "sym": True, "desc_act": False, "act_group_aware": False},
        **{"damp_percent": OPTIONS.damping, "damp_auto_increment": 0.0, "fallback": None, "offload_to_disk": False},
    )
    with stages("quantize"):
        quantized = GPTQModel.load(str(model), config, device="cuda")
        samples = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in calibration]
        quantized.quantize(samples, batch_size=OPTIONS.batch_size, calibration_sort=None, calibration_data_min_length=1)
        quantized.save(str(folder / "plain"))
    losses = {f"{entry['layer']}.{entry['module']}": float(entry["loss"]) for entry in quantized.quant_log}
    del quantized
    with stages("load"):
        packed = GPTQModel.load(str(folder / "plain"), device="cuda", backend=BACKEND.TRITON)
    with stages("evaluate"):
        lm = HFLM(
            pretrained=packed.model,
            tokenizer=word_tokenizer(),
            batch_size=32,
            max_length=4096,
            softmax_dtype="float32",
        )
        stages.row |= evaluate(lm, tasks, names)
    return stages.row, losses


def hessian_check(width: int = 12_288, rows: int = 16_384) -> None:
    """Seconds and relative difference of one Hessian by either product."""
    matrix = torch.randn(rows, width, device="cuda").bfloat16()
    products = {
        "float32": lambda: matrix.float().T @ matrix.float(),
        "tensor cores": lambda: torch.mm(matrix.T, matrix, out_dtype=torch.float32),
    }
    found = {}
    for name, product in products.items():
        product()
        torch.cuda.synchronize()
        started = time.perf_counter()
        found[name] = product()
        torch.cuda.synchronize()
        print(f"Hessian of {rows} x {width}, {name}: {1e3 * (time.perf_counter() - started):.1f} ms")
    difference = (found["float32"] - found["tensor cores"]).norm() / found["float32"].norm()
    print(f"relative difference {difference:.1e}", flush=True)


def main(out: str, wanted: list[str]) -> None:
    import json

    hessian_check()
    rng, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tasks").mkdir()
        names = write_tasks(folder / "tasks")
        tasks = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
        samples = [rng.integers(1, VOCABULARY, TOKENS).tolist() for _ in range(1024)]
        # Extensions are compiled once for a machine; that is not the time of a variant.
        random_model("warm-up").save_pretrained(folder / "warm-up")
        word_tokenizer().save_pretrained(folder / "warm-up")
        started = time.perf_counter()
        warm_up = Quantization(4, 128, 2, 0)
        quantize(folder / "warm-up", folder / warm_up.name, warm_up, samples[:2], OPTIONS, "cuda")
        print(f"extensions and warm-up: {time.perf_counter() - started:.1f} s", flush=True)
        for entry in wanted:
            size, count = entry.removeprefix("plain:").split("/")
            model = folder / size
            if not model.exists():
                for other in folder.glob("*B"):
                    shutil.rmtree(other)
                random_model(size).save_pretrained(model)
                word_tokenizer().save_pretrained(model)
                gc.collect()
                torch.cuda.empty_cache()
            row, checkpoint = ours(model, samples[: int(count)], tasks, names, folder, size)
            rows.append(row)
            if entry.startswith("plain:"):
                row, losses = plain(model, samples[: int(count)], tasks, names, folder, size)
                rows.append(row)
                audit = json.loads((checkpoint / AUDIT).read_text())
                ratios = [module["loss"] / losses[module["name"]] - 1 for module in audit["modules"]]
                print(f"{size}: losses differ by {np.abs(ratios).max():.1e} at most, {np.mean(ratios):.1e} on average")
            shutil.rmtree(checkpoint)
            pd.DataFrame(rows).to_csv(out, index=False)
    print(pd.DataFrame(rows).T.to_string(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
