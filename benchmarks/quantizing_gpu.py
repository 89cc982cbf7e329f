"""Seconds of a quantization on GPUs by side and stage, and the losses of all matrices compared.

``python benchmarks/quantizing_gpu.py OUT.json SECONDS RUN …`` with runs such as ``8B/128:ours,plain``,
``8B/128,512/18:ours,two`` or ``8B/512:ours,llmcompressor``: a Qwen3 shape with random weights, numbers of calibration
samples of 2,048 tokens and, to measure some of the layers, how many; then the sides. 4 bits, groups of 128.

- *ours*; *two*, ours on two GPUs.
- *hessians*, ours with Hessians on tensor cores as the only patch that saves time.
- *plain*, gptqmodel with the same options. It and *hessians* use gptqmodel's compiled extension.
- *llmcompressor*, its ``GPTQModifier`` through ``oneshot`` with the same samples, batches, damping and order of
  columns, activations kept on the GPU. It quantizes a layer as a whole: its samples pass each layer twice, where the
  others pass it for each group of matrices that share inputs, on the outputs of those already quantized. Its losses are
  its own. (llmcompressor 0.14.0.1 with compressed-tensors 0.19.0 accepts transformers 5.17.)

Each side of a run is a process of its own. Whatever was measured is in OUT.json once its side has ended, and stays if a
later one fails or the SECONDS are up: of a side that is cut off, the stages and layers that it had done. What the sides
say goes to OUT.log.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "8")

import numpy as np
import torch
from true_shapes import SHAPES, VOCABULARY, random_model, word_tokenizer

from stratalaw.study import Gptq
from stratalaw.study.variants import Quantization

# A device without a GPU shows that a side runs, not how fast it is.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOKENS = 2048
OPTIONS = Gptq(threads=8)
WARM_UP_SAMPLES = 2 * OPTIONS.batch_size  # a batch for each of two GPUs
# What the pipeline's side has beyond Hessians on tensor cores.
FASTER = (
    *("fused_layers", "passes_without_last_product", "passes_side_by_side", "passes_from_kept_activations"),
    *("packing_beside_next_layer", "factor_once", "solve_with_kernels", "quantized_layers_through_page_locked_memory"),
    *("write_without_copy", "flushed_when_written"),
)
Losses = dict[str, float]
Measure = Callable[[Path, Path, list[list[int]], "Stopwatch"], Losses]


@dataclass(frozen=True)
class Run:
    """What is measured: a shape, with how many of its layers, how many samples, and on which sides."""

    size: str
    counts: list[int]
    n_layers: int
    sides: list[str]

    @classmethod
    def from_text(cls, text: str) -> Run:
        what, _, sides = text.partition(":")
        size, counts, *layers = what.split("/")
        n_layers = int(layers[0]) if layers else SHAPES[size][2]
        return cls(size, [int(count) for count in counts.split(",")], n_layers, sides.split(","))


class Stopwatch:
    """Seconds by stage, handed to ``report`` as soon as each is known."""

    def __init__(self, report: Callable[[dict[str, Any]], object]) -> None:
        self.seconds: dict[str, Any] = {}
        self.report = report
        self.lock = threading.Lock()  # files are flushed on threads

    def note(self, stage: str, value: Any) -> None:
        with self.lock:
            self.seconds[stage] = value
            self.report(self.seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.note(name, round(time.perf_counter() - started, 2))

    def timed(self, stage: str, function: Callable) -> Callable:
        def run(*arguments: Any, **options: Any) -> Any:
            with self.stage(stage):
                return function(*arguments, **options)

        return run

    def loads(self, load: Callable) -> Callable:
        """gptqmodel's way to load a model, whose further stages are timed, too."""

        def loaded(*arguments: Any, **options: Any) -> Any:
            model = self.timed("load", load)(*arguments, **options)
            model.save = self.timed("save", model.save)
            quantize = self.timed("layers", model.quantize)

            def quantized(*arguments: Any, **options: Any) -> Any:
                log = quantize(*arguments, **options)
                regions = model.quant_region_timer.snapshot().items()
                parts = {name: round(region["total"], 2) for name, region in regions if region["count"]}
                self.note("parts of layers (threads overlap)", parts)
                return log

            model.quantize = quantized
            return model

        return loaded


def measure_ours(
    folder: Path, target: Path, samples: list[list[int]], watch: Stopwatch, gpus: int = 1, as_before: bool = False
) -> Losses:
    """The pipeline's quantization."""
    from gptqmodel import GPTQModel

    from stratalaw import files
    from stratalaw.quantization import gptq, gptqmodel_patches

    with ExitStack() as patched:
        patched.enter_context(patch.object(GPTQModel, "load", watch.loads(GPTQModel.load)))
        patched.enter_context(patch.object(gptq, "sha256_sums", watch.timed("hashes", gptq.sha256_sums)))
        patched.enter_context(patch.object(files, "synchronize", watch.timed("fsync", files.synchronize)))
        for name in FASTER if as_before else ():
            patched.enter_context(patch.object(gptqmodel_patches, name, nullcontext))
        quantization = Quantization(4, 128, len(samples), 0)
        watch.timed("all", gptq.quantize)(folder, target, quantization, samples, OPTIONS, DEVICE, gpus)
    modules = json.loads((target / gptq.AUDIT).read_text())["modules"]
    return {module["name"]: module["loss"] for module in modules}


def measure_two(folder: Path, target: Path, samples: list[list[int]], watch: Stopwatch) -> Losses:
    return measure_ours(folder, target, samples, watch, gpus=2)


def measure_hessians(folder: Path, target: Path, samples: list[list[int]], watch: Stopwatch) -> Losses:
    return measure_ours(folder, target, samples, watch, as_before=True)


def measure_plain(folder: Path, target: Path, samples: list[list[int]], watch: Stopwatch) -> Losses:
    """gptqmodel with the same options."""
    from gptqmodel import GPTQModel, QuantizeConfig

    config = QuantizeConfig(
        **{"bits": 4, "group_size": 128, "sym": True, "desc_act": False, "act_group_aware": False},
        **{"damp_percent": OPTIONS.damping, "damp_auto_increment": 0.0, "fallback": None, "offload_to_disk": False},
    )
    rows = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in samples]
    with watch.stage("all"):
        model = watch.loads(GPTQModel.load)(str(folder), config, device=DEVICE)
        model.quantize(rows, batch_size=OPTIONS.batch_size, calibration_sort=None, calibration_data_min_length=1)
        model.save(str(target))
    return {f"{entry['layer']}.{entry['module']}": float(entry["loss"]) for entry in model.quant_log}


def measure_llmcompressor(folder: Path, target: Path, samples: list[list[int]], watch: Stopwatch) -> Losses:
    """llm-compressor, as its examples have it, but for activations, which stay on the GPU."""
    import llmcompressor
    from datasets import Dataset
    from llmcompressor.modifiers.gptq import GPTQModifier
    from transformers import AutoModelForCausalLM

    rows = Dataset.from_dict({"input_ids": samples, "attention_mask": [[1] * len(tokens) for tokens in samples]})
    modifier = GPTQModifier(
        targets="Linear", scheme="W4A16", ignore=["lm_head"], dampening_frac=OPTIONS.damping, actorder=None
    )
    done: list[float] = []
    end_of_layer = GPTQModifier.on_sequential_epoch_end

    def noted(modifier: Any, *arguments: Any, **options: Any) -> None:
        end_of_layer(modifier, *arguments, **options)
        done.append(round(time.perf_counter() - started, 2))
        watch.note("ends of layers, since the start", list(done))

    with watch.stage("all"), patch.object(GPTQModifier, "on_sequential_epoch_end", noted):
        with watch.stage("load"):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        started = time.perf_counter()
        with watch.stage("layers"):
            llmcompressor.oneshot(
                model=model,
                tokenizer=str(folder),
                dataset=rows,
                recipe=modifier,
                num_calibration_samples=len(samples),
                shuffle_calibration_samples=False,
                max_seq_length=TOKENS,
                batch_size=OPTIONS.batch_size,
                sequential_offload_device=DEVICE,
            )
        with watch.stage("save"):
            model.save_pretrained(target, save_compressed=True)
    return {}


SIDES: dict[str, Measure] = {
    "ours": measure_ours,
    "two": measure_two,
    "hessians": measure_hessians,
    "plain": measure_plain,
    "llmcompressor": measure_llmcompressor,
}


def compared(losses: Losses, reference: Losses) -> dict[str, float]:
    """Relative differences of losses."""
    ratios = np.array([losses[name] / reference[name] - 1 for name in reference])
    return {"matrices": len(ratios), "largest": float(np.abs(ratios).max()), "mean": float(ratios.mean())}


def samples_of(count: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCABULARY, TOKENS).tolist() for _ in range(count)]


def save_model(folder: Path, size: str, n_layers: int) -> None:
    from stratalaw.models.folder import write_manifest

    random_model(size, device=DEVICE, n_layers=n_layers).save_pretrained(folder, max_shard_size="4GB")
    word_tokenizer().save_pretrained(folder)
    write_manifest(folder)


def measure_side(side: str, run: Run, folder: Path, found: Path) -> None:
    """Measure one side of a run with each number of samples; what it finds goes to a file at once."""
    everything: dict[int, dict[str, Any]] = {}
    measure, about = SIDES[side], dict[str, Any]()

    def report(seconds: dict[str, Any]) -> None:
        about["seconds"] = seconds
        if count:
            everything[count] = about
            partial = found.with_suffix(".partial")
            partial.write_text(json.dumps(everything))
            partial.replace(found)

    count = 0
    # Kernels and extensions are compiled once for a machine; that is not the time of a variant.
    warm = folder / side / Quantization(4, 128, WARM_UP_SAMPLES, 0).name
    measure(folder / "warm-up", warm, samples_of(WARM_UP_SAMPLES), Stopwatch(report))
    gpus = range(torch.cuda.device_count())
    for count in run.counts:
        gc.collect()
        torch.cuda.empty_cache()
        for gpu in gpus:
            torch.cuda.reset_peak_memory_stats(gpu)
        about = {}
        target = folder / side / "measured" / Quantization(4, 128, count, 0).name
        watch = Stopwatch(report)
        about["losses"] = measure(folder / f"{run.size}-{run.n_layers}", target, samples_of(count), watch)
        about["gpu_bytes"] = [torch.cuda.max_memory_allocated(gpu) for gpu in gpus]
        report(watch.seconds)


def logged(log: Path, function: Callable, *arguments: Any) -> None:
    """Call a function with all that is said going to a file."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments)


def finish(ends: float, log: Path, function: Callable, *arguments: Any, gpus: int = 1) -> str | None:
    """Run a function in a process of its own, which sees so many GPUs, until a time of the monotonic clock; what went
    wrong, if anything."""
    process = multiprocessing.get_context("spawn").Process(target=logged, args=(log, function, *arguments))
    with patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))}):
        process.start()
    process.join(max(ends - time.monotonic(), 0))
    if process.is_alive():
        process.kill()
        process.join()
        return "the time was up"
    return None if process.exitcode == 0 else f"exit status {process.exitcode}: {log.read_text()[-300:]}"


def main(out: str, seconds: str, *runs: str) -> None:
    ends, log = time.monotonic() + float(seconds), Path(out).with_suffix(".log")
    records: list[dict[str, Any]] = []

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finish(ends, log, save_model, folder / "warm-up", "warm-up", 1)
        for run in map(Run.from_text, runs):
            model = folder / f"{run.size}-{run.n_layers}"
            if not model.exists():
                finish(ends, log, save_model, model, run.size, run.n_layers)
            losses: dict[tuple[int, str], Losses] = {}
            for side in run.sides:
                found = folder / f"{side}.json"
                found.unlink(missing_ok=True)
                error = finish(ends, log, measure_side, side, run, folder, found, gpus=2 if side == "two" else 1)
                measured = json.loads(found.read_text()) if found.exists() else {}
                for count in run.counts:
                    record = record_of(run, side, count, measured.get(str(count)), error)
                    losses[count, side] = (measured.get(str(count)) or {}).get("losses") or {}
                    for other in run.sides[: run.sides.index(side)]:
                        if losses[count, side] and losses[count, other]:
                            differences = compared(losses[count, side], losses[count, other])
                            record[f"losses against {other}"] = differences
                    records.append(record)
                    Path(out).write_text(json.dumps(records, indent=1))
                    print(json.dumps({key: record[key] for key in record if key != "details"}), flush=True)


def record_of(run: Run, side: str, count: int, about: dict[str, Any] | None, error: str | None) -> dict[str, Any]:
    """What is said of one side with one number of samples."""
    n_all = SHAPES[run.size][2]
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE
    record: dict[str, Any] = {"side": side, "size": run.size, "samples": count, "layers": run.n_layers}
    record |= {"device": device}
    if about is None:
        return record | {"error": error or "not reached"}
    seconds = dict(about["seconds"])
    details = {name: seconds.pop(name) for name in list(seconds) if not isinstance(seconds[name], float)}
    record |= {"seconds": seconds, "details": details}
    if "layers" in seconds and run.n_layers != n_all:
        record[f"seconds of {n_all} layers, extrapolated"] = round(seconds["layers"] * n_all / run.n_layers, 1)
    if "gpu_bytes" in about:
        return record | {"gpu_bytes": about["gpu_bytes"]}
    return record | {"error": error or "cut off"}


if __name__ == "__main__":
    main(*sys.argv[1:])
