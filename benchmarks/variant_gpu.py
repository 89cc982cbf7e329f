"""Seconds by stage of one variant on a GPU, and a GPU's points of ``stratalaw cost`` (src/stratalaw/cost/rates.csv).

``python benchmarks/variant_gpu.py OUT.csv 1.7B/8 plain:8B/128 …`` (shape/calibration samples of 2,048 tokens; with
``plain:`` also gptqmodel with the same options, then lm-eval's ``hf`` model on the packed checkpoint with gptqmodel's
Triton kernel). Qwen3 shapes with random weights, 4 bits, groups of 128; the tasks of true_shapes.py. Of the stages,
``evaluate`` is lm-eval from the tasks' names to their accuracies, ``score`` what of it is spent between token ids and
log-likelihoods, and ``generate`` 256 answers of 64 tokens. Every row is written as soon as it is measured.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "8")

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from rates import Table
from scoring_gpu import MAX_LENGTH, PROBED, TOKENS_PER_BATCH, timed
from true_shapes import VOCABULARY, random_model, word_tokenizer, write_tasks

from stratalaw.cost.memory import fit_beside_a_layer
from stratalaw.engine import generate, make_batching
from stratalaw.evaluation.answers import load_dense
from stratalaw.evaluation.harness import without_environment
from stratalaw.lm_eval_model import PrefixSharingModel
from stratalaw.models.folder import verify_model, write_manifest
from stratalaw.models.known_shapes import shapes_of
from stratalaw.models.shapes import Shapes
from stratalaw.quantization.gptq import AUDIT, quantize
from stratalaw.study import Gptq
from stratalaw.study.variants import Quantization

TOKENS = 2048
OPTIONS = Gptq(threads=8)
REFERENCE_BATCH = 32
PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 256, 500, 64
# Of the plain way; what starting a job of ours takes says many_variants.py.
STARTS = {
    "import gptqmodel": "import torch, gptqmodel; torch.zeros(1, device='cuda')",
    "lm_eval, gptqmodel": "import lm_eval.__main__, lm_eval.evaluator, lm_eval.models.huggingface, gptqmodel, torch; "
    "lm_eval.tasks.TaskManager(); torch.zeros(1, device='cuda')",
}


@dataclass
class Bench:
    """What every measurement needs."""

    table: Table
    folder: Path
    tasks: TaskManager
    task_names: list[str]
    samples: list[list[int]]
    prompts: list[list[int]]

    def evaluate(self, kind: type, model, size: str, shapes: Shapes, toolchain: str) -> None:
        """lm-eval on each task, and of it what is spent on token ids."""
        batch_size = 1 if kind is PrefixSharingModel else REFERENCE_BATCH
        for task in self.task_names:
            timed(kind, model, word_tokenizer(), task, self.tasks, batch_size, limit=PROBED)  # compiles kernels
            # Packages are listed once a run, whatever its tasks.
            with without_environment(), self.table.measure("evaluate", size, shapes, toolchain, note=task):
                seconds, _, _, requests = timed(kind, model, word_tokenizer(), task, self.tasks, batch_size)
            evaluated = self.table.rows[-1]["seconds"]
            _, contexts, continuations = zip(*requests, strict=True)
            if kind is PrefixSharingModel:
                started = time.perf_counter()
                batching = make_batching(
                    contexts, continuations, tokens_per_batch=TOKENS_PER_BATCH, max_length=MAX_LENGTH
                )
                seconds -= time.perf_counter() - started  # the pipeline batchings before, on a CPU
                tokens = batching.tokens
            else:  # the same row is run once, the last token of a continuation not at all
                asked = {"requests": len(requests), "tokens": sum(map(len, [*contexts, *continuations]))}
                self.table.add(evaluated - seconds, "harness", toolchain=toolchain, **asked, note=task)
                rows = zip(contexts, continuations, strict=True)
                tokens = sum(map(len, {tuple([*context, *continuation][:-1]) for context, continuation in rows}))
            self.table.add(seconds, "log_likelihoods", size, shapes, toolchain, tokens=tokens, note=task)

    def generate(self, answer: Callable[[list[list[int]]], object], rows_per_batch: int, *about) -> None:
        """The generations that ``answer`` makes of prompts, ``rows_per_batch`` at once; ``about``: see the table."""
        answer(self.prompts[:2])  # compiles kernels
        steps = NEW_TOKENS * -(-PROMPTS // rows_per_batch)
        with self.table.measure("generate", *about, tokens=PROMPTS * PROMPT_TOKENS, steps=steps):
            answer(self.prompts)


def measure_starts(table: Table) -> None:
    """Processes of the plain way that load the libraries and make the device ready; their bytecode is there."""
    for note, code in STARTS.items():
        subprocess.run([sys.executable, "-c", code], check=True)
        for _ in range(2):
            with table.measure("start", toolchain="reference", note=note):
                subprocess.run([sys.executable, "-c", code], check=True)


def measure_ours(bench: Bench, size: str, model: Path, calibration: list[list[int]]) -> Path:
    """Every stage of one variant of ours; the checkpoint."""
    shapes = shapes_of(model)
    checkpoint = bench.folder / f"{size}-ours" / Quantization(4, 128, len(calibration), 0).name
    with bench.table.measure("verify", size, shapes):
        verify_model(model)
    tokens = len(calibration) * TOKENS
    anew = 0 if fit_beside_a_layer(shapes, tokens) else tokens
    with bench.table.measure("quantize", size, shapes, calibration_tokens=tokens, anew_tokens=anew):
        quantize(model, checkpoint, Quantization.from_name(checkpoint.name), calibration, OPTIONS, "cuda")
    with bench.table.measure("load", size, shapes):
        dense = load_dense(checkpoint, "cuda")
    bench.evaluate(PrefixSharingModel, dense, size, shapes, "ours")
    measure_our_generations(bench, size, shapes, dense)
    return checkpoint


def measure_our_generations(bench: Bench, size: str, shapes: Shapes, dense) -> None:
    limits = {"max_new_tokens": NEW_TOKENS, "tokens_per_batch": TOKENS_PER_BATCH, "max_length": MAX_LENGTH}
    rows_per_batch = TOKENS_PER_BATCH // (PROMPT_TOKENS + NEW_TOKENS)
    answer = lambda prompts: generate(dense, word_tokenizer(), prompts, stop=["\n"], **limits)  # noqa: E731
    bench.generate(answer, rows_per_batch, size, shapes, "ours")


def measure_plain(bench: Bench, size: str, model: Path, calibration: list[list[int]]) -> dict[str, float]:
    """Every stage of the same variant with the reference toolchain; gptqmodel's loss of each matrix."""
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

    shapes, saved = shapes_of(model), bench.folder / f"{size}-plain"
    config = QuantizeConfig(
        **{"bits": 4, "group_size": 128, "sym": True, "desc_act": False, "act_group_aware": False},
        **{"damp_percent": OPTIONS.damping, "damp_auto_increment": 0.0, "fallback": None, "offload_to_disk": False},
    )
    tokens = len(calibration) * TOKENS
    with bench.table.measure("quantize", size, shapes, "reference", calibration_tokens=tokens, anew_tokens=tokens):
        quantized = GPTQModel.load(str(model), config, device="cuda")
        rows = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in calibration]
        quantized.quantize(rows, batch_size=OPTIONS.batch_size, calibration_sort=None, calibration_data_min_length=1)
        quantized.save(str(saved))
    losses = {f"{entry['layer']}.{entry['module']}": float(entry["loss"]) for entry in quantized.quant_log}
    del quantized
    gc.collect()
    torch.cuda.empty_cache()
    with bench.table.measure("load", size, shapes, "reference"):
        packed = GPTQModel.load(str(saved), device="cuda", backend=BACKEND.TRITON).model
    bench.evaluate(HFLM, packed, size, shapes, "reference")
    measure_plain_generations(bench, size, shapes, packed)
    return losses


def measure_plain_generations(bench: Bench, size: str, shapes: Shapes, packed) -> None:
    lm = HFLM(pretrained=packed, tokenizer=word_tokenizer(), batch_size=REFERENCE_BATCH, max_length=MAX_LENGTH)
    options = {"until": ["\n"], "max_gen_toks": NEW_TOKENS, "do_sample": False}

    def answer(prompts: list[list[int]]) -> None:
        texts = word_tokenizer().batch_decode(prompts)
        lm.generate_until([Instance("generate_until", {}, (text, options), i) for i, text in enumerate(texts)])

    bench.generate(answer, REFERENCE_BATCH, size, shapes, "reference")


def compare_hessians(width: int = 12_288, rows: int = 16_384) -> None:
    """Milliseconds and relative difference of one Hessian by either product."""
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


def compare_losses(checkpoint: Path, plain: dict[str, float]) -> None:
    """Relative differences of the losses of all matrices."""
    modules = json.loads((checkpoint / AUDIT).read_text())["modules"]
    ratios = [module["loss"] / plain[module["name"]] - 1 for module in modules]
    print(f"losses differ by {np.abs(ratios).max():.1e} at most, {np.mean(ratios):.1e} on average")


def saved_model(folder: Path, size: str) -> Path:
    """A random model on the disk, in files as large as the Hub's."""
    if not (folder / size).exists():
        random_model(size).save_pretrained(folder / size, max_shard_size="4GB")
        word_tokenizer().save_pretrained(folder / size)
        write_manifest(folder / size)
        gc.collect()
        torch.cuda.empty_cache()
    return folder / size


def main(out: str, wanted: list[str]) -> None:
    table, rng = Table(out), np.random.default_rng(0)
    compare_hessians()
    measure_starts(table)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tasks").mkdir()
        names = list(write_tasks(folder / "tasks"))
        samples = [rng.integers(1, VOCABULARY, TOKENS).tolist() for _ in range(1024)]
        prompts = rng.integers(1, VOCABULARY, (PROMPTS, PROMPT_TOKENS)).tolist()
        tasks = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
        bench = Bench(table, folder, tasks, names, samples, prompts)
        # Extensions are compiled once for a machine; that is not the time of a variant.
        with table.measure("warm-up", note="gptqmodel's extensions; not of a variant"):
            warm_up = Quantization(4, 128, 2, 0)
            quantize(saved_model(folder, "warm-up"), folder / warm_up.name, warm_up, samples[:2], OPTIONS, "cuda")
        for entry in wanted:
            size, count = entry.removeprefix("plain:").split("/")
            model = saved_model(folder, size)
            checkpoint = measure_ours(bench, size, model, samples[: int(count)])
            if entry.startswith("plain:"):
                compare_losses(checkpoint, measure_plain(bench, size, model, samples[: int(count)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
