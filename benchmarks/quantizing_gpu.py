"""Seconds of one quantization on a GPU by side and stage, and the losses of all matrices compared.

``python benchmarks/quantizing_gpu.py OUT.json 8B 128 [layers]``: a Qwen3 shape with random weights, calibration samples
of 2,048 tokens, 4 bits, groups of 128. Sides: *ours*; *hessians*, ours with Hessians on tensor cores as the only patch
that saves time; *plain*, gptqmodel with the same options. The latter two use gptqmodel's compiled extension.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "8")

import numpy as np
import torch
from gptqmodel import GPTQModel, QuantizeConfig
from true_shapes import VOCABULARY, random_model, word_tokenizer

from stratalaw import files
from stratalaw.models.folder import write_manifest
from stratalaw.quantization import gptq, gptqmodel_patches
from stratalaw.study import Gptq
from stratalaw.study.variants import Quantization

TOKENS = 2048
GPTQ_LOAD = GPTQModel.load
OPTIONS = Gptq(threads=8)
# What the pipeline's side has beyond Hessians on tensor cores.
FASTER = (
    *("fused_layers", "passes_without_last_product", "factor_once", "solve_with_kernels"),
    *("quantized_layers_through_page_locked_memory", "write_without_copy"),
)


class Stopwatch:
    """Seconds of a side, by stage, and what gptqmodel's own timer says of the parts of its loop."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, function: Callable) -> Callable:
        def run(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[stage] = round(time.perf_counter() - started, 2)

        return run

    def loaded(self, *arguments: Any, **options: Any) -> Any:
        model = self.timed("load", GPTQ_LOAD)(*arguments, **options)
        model.quantize = self.timed("layers", model.quantize)
        model.save = self.timed("save", model.save)
        self.model = model
        return model

    def region_seconds(self) -> dict[str, float]:
        snapshot = self.model.quant_region_timer.snapshot()
        return {name: round(region["total"], 2) for name, region in snapshot.items() if region["count"]}


def measure_ours(
    folder: Path, target: Path, samples: list[list[int]], as_before: bool
) -> tuple[dict, dict[str, float]]:
    """Seconds by stage of the pipeline's quantization, and the losses of its matrices."""
    watch = Stopwatch()
    with ExitStack() as patched:
        patched.enter_context(patch.object(GPTQModel, "load", watch.loaded))
        patched.enter_context(patch.object(gptq, "sha256_sums", watch.timed("hashes", gptq.sha256_sums)))
        patched.enter_context(patch.object(files, "_synchronize", watch.timed("fsync", files._synchronize)))
        for name in FASTER if as_before else ():
            patched.enter_context(patch.object(gptqmodel_patches, name, nullcontext))
        quantization = Quantization(4, 128, len(samples), 0)
        watch.timed("all", gptq.quantize)(folder, target, quantization, samples, OPTIONS, "cuda")
    modules = json.loads((target / gptq.AUDIT).read_text())["modules"]
    about = watch.seconds | {"parts of layers (threads overlap)": watch.region_seconds()}
    return about, {module["name"]: module["loss"] for module in modules}


def measure_plain(folder: Path, target: Path, samples: list[list[int]]) -> tuple[dict, dict[str, float]]:
    """The same of gptqmodel with the same options."""
    config = QuantizeConfig(
        **{"bits": 4, "group_size": 128, "sym": True, "desc_act": False, "act_group_aware": False},
        **{"damp_percent": OPTIONS.damping, "damp_auto_increment": 0.0, "fallback": None, "offload_to_disk": False},
    )
    rows = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in samples]
    watch, started = Stopwatch(), time.perf_counter()
    model = watch.loaded(str(folder), config, device="cuda")
    model.quantize(rows, batch_size=OPTIONS.batch_size, calibration_sort=None, calibration_data_min_length=1)
    model.save(str(target))
    about = watch.seconds | {"all": round(time.perf_counter() - started, 2)}
    about |= {"parts of layers (threads overlap)": watch.region_seconds()}
    return about, {f"{entry['layer']}.{entry['module']}": float(entry["loss"]) for entry in model.quant_log}


def compared(losses: dict[str, float], reference: dict[str, float]) -> dict[str, float]:
    """Relative differences of losses."""
    ratios = np.array([losses[name] / reference[name] - 1 for name in reference])
    return {"matrices": len(ratios), "largest": float(np.abs(ratios).max()), "mean": float(ratios.mean())}


def saved_model(folder: Path, size: str, layers: int | None = None) -> Path:
    random_model(size, n_layers=layers).save_pretrained(folder, max_shard_size="4GB")
    word_tokenizer().save_pretrained(folder)
    write_manifest(folder)
    return folder


def main(out: str, size: str, count: str, layers: str | None = None) -> None:
    rng = np.random.default_rng(0)
    samples = [rng.integers(1, VOCABULARY, TOKENS).tolist() for _ in range(int(count))]
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "size": size, "samples": int(count)}
    losses = {}
    sides = {
        "ours": lambda *paths: measure_ours(*paths, as_before=False),
        "hessians": lambda *paths: measure_ours(*paths, as_before=True),
        "plain": lambda model, target, samples: measure_plain(model, target, samples),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_up = saved_model(folder / "warm-up", "warm-up")
        model = saved_model(folder / size, size, int(layers) if layers else None)
        for side, measure in sides.items():
            target = folder / side / Quantization(4, 128, int(count), 0).name
            # Kernels and extensions are compiled once for a machine; that is not the time of a variant.
            measure(warm_up, folder / "warm" / side / Quantization(4, 128, 2, 0).name, samples[:2])
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            found[side], losses[side] = measure(model, target, samples)
            found[side]["gpu_bytes"] = torch.cuda.max_memory_allocated()
            for other in losses.keys() - {side}:
                found[f"losses of {side} against {other}"] = compared(losses[side], losses[other])
            print(json.dumps(found, indent=1), flush=True)
            Path(out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
