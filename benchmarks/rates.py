"""The measured points of ``stratalaw cost`` (src/stratalaw/cost/rates.csv).

On a GPU, ``python benchmarks/rates.py OUT.csv 0.6B/8 1.7B/128 plain:8B/128 …`` (shape/calibration samples of 2,048
tokens; ``plain:`` before it for gptqmodel and lm-eval's ``hf`` model too): Qwen3 shapes with random weights, 4 bits,
groups of 128. On a CPU, ``python benchmarks/rates.py OUT.csv r1 r3 r5``: models of the ladder as config/ladder.yaml
runs them, in a process with the libraries loaded, one thread. Every row is written as soon as it is measured.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "8")

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open

from stratalaw import stages
from stratalaw.cost.rates import amounts_of
from stratalaw.cost.workload import work_of
from stratalaw.evaluation import load_dense
from stratalaw.models import verify_model, write_manifest
from stratalaw.quantization import quantize
from stratalaw.scoring import generate, make_plan, score
from stratalaw.shapes import Shapes, shapes_of
from stratalaw.study import Gptq, read_study
from stratalaw.variants import Quantization

TOKENS, TOKENS_A_BATCH, MAX_LENGTH = 2048, 65_536, 4096
PROMPTS, PROMPT_TOKENS, NEW_TOKENS, PLAIN_BATCH = 256, 500, 64, 32
STARTS = {
    "quantize": "import torch, gptqmodel; torch.zeros(1, device='cuda')",
    "answer": "import torch, transformers, stratalaw.evaluation; torch.zeros(1, device='cuda')",
}
COLUMNS = [
    *("device", "way", "stage", "shape", "n_params", "n_quantized", "n_layers", "hidden_size"),
    *("calibration_tokens", "tokens", "steps", "requests", "seconds", "gpu_bytes", "note"),
]


class Table:
    """Rows of rates.csv, written after each measurement."""

    def __init__(self, path: str) -> None:
        self.path, self.rows = path, []
        self.on_gpu = torch.cuda.is_available()
        self.device = torch.cuda.get_device_name() if self.on_gpu else "cpu"
        # On a CPU that others use too, the seconds of a core.
        self.clock = time.perf_counter if self.on_gpu else time.process_time

    @contextmanager
    def measure(
        self, stage: str, shape: str = "", shapes: Shapes | None = None, way: str = "ours", **amounts
    ) -> Iterator:
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = self.clock()
        yield
        if self.on_gpu:
            torch.cuda.synchronize()
            amounts["gpu_bytes"] = torch.cuda.max_memory_allocated()
        about = {"device": self.device, "way": way, "stage": stage, "shape": shape}
        about |= (amounts_of(shapes) if shapes else {}) | amounts
        self.rows.append(about | {"seconds": round(self.clock() - started, 3)})
        print(self.rows[-1], flush=True)
        pd.DataFrame(self.rows, columns=COLUMNS).to_csv(self.path, index=False)
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()


def measure_ladder(table: Table, names: list[str]) -> None:
    """Models of the ladder on one thread of a CPU."""
    study = read_study(Path("config/ladder.yaml"))
    torch.set_num_threads(1)
    with table.measure("start", note="the job's own process; libraries are in the warm worker"):
        import snakemake.script  # noqa: F401
    evaluation, strata = study.evaluation.model_dump(), list(study.evaluation.strata)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in names:
            model, (requests, plans, answers, scores, summary) = (
                folder / name,
                (
                    [str(folder / name / f"{kind}-{stratum}" / f"{stratum}{ending}") for stratum in strata]
                    for kind, ending in (
                        *(("requests", ".parquet"), ("plan", ".safetensors"), ("answers", ".parquet")),
                        *(("scores", ".parquet"), ("summary", ".json")),
                    )
                ),
            )
            stages.provide_model(f"ladder/models/{name}", None, "", str(model))
            shapes = shapes_of(model)
            if name == names[0]:
                # What is loaded at the first use is there in a warm worker.
                warm = Quantization(4, 128, 2, 0)
                quantize(model, folder / warm.name, warm, [list(range(1, 257))] * 2, study.gptq)
                stages.record_requests(str(model), evaluation, requests, plans)
            drawn = {"calibration_tokens": 128 * study.calibration.tokens}
            with table.measure("calibration", name, **drawn):
                stages.draw_calibration(
                    str(model), study.calibration.corpus, [], 128, study.calibration.tokens, None, 0, str(folder / "s0")
                )
            asked = round(work_of(study.evaluation).requests)
            with table.measure("requests", name, requests=asked):
                stages.record_requests(str(model), evaluation, requests, plans)
            with table.measure("verify", name, shapes):
                verify_model(model)
            for samples in (8, 32, 128):
                checkpoint = folder / Quantization(4, 64, samples, 0).name
                tokens = pd.read_parquet(folder / "s0").tokens[:samples].tolist()
                amounts = {"calibration_tokens": samples * study.calibration.tokens}
                with table.measure("quantize", name, shapes, **amounts):
                    quantize(model, checkpoint, Quantization.from_name(checkpoint.name), tokens, study.gptq)
            with table.measure("load", name, shapes):
                load_dense(checkpoint, "cpu")
            with table.measure("score", name, shapes, tokens=sum(map(tokens_of_plan, plans))):
                stages.answer_requests(str(checkpoint), requests, plans, study.evaluation.tokens_a_batch, 1, answers)
            with table.measure("scores", name, requests=asked):
                stages.score_items(evaluation, requests, answers, scores, summary)
    from stratalaw.laws.report import fit_table

    with table.measure("analysis"):
        fit_table(Path("docs/studies/ladder/observations.csv"), [], [], None, 1000)


def tokens_of_plan(path: str) -> int:
    with safe_open(path, "np") as plan:
        return int(plan.metadata()["tokens"])


def measure_shapes(table: Table, wanted: list[str]) -> None:
    """Qwen3 shapes with random weights on a GPU."""
    from true_shapes import VOCABULARY, random_model, word_tokenizer

    rng = np.random.default_rng(0)
    samples = [rng.integers(1, VOCABULARY, TOKENS).tolist() for _ in range(1024)]
    prompts = [rng.integers(1, VOCABULARY, PROMPT_TOKENS) for _ in range(PROMPTS)]
    options = Gptq(threads=8)
    for note, code in STARTS.items():
        subprocess.run([sys.executable, "-c", code], check=True)  # bytecode
        with table.measure("start", note=note):
            subprocess.run([sys.executable, "-c", code], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def model_of(size: str) -> Path:
            if not (folder / size).exists():
                random_model(size).save_pretrained(folder / size)
                word_tokenizer().save_pretrained(folder / size)
                write_manifest(folder / size)
                gc.collect()
                torch.cuda.empty_cache()
            return folder / size

        warm = Quantization(4, 128, 2, 0)
        quantize(model_of("warm-up"), folder / warm.name, warm, samples[:2], options, "cuda")  # compiles extensions
        scored = set()
        for entry in wanted:
            size, count = entry.removeprefix("plain:").split("/")
            model, calibration = model_of(size), samples[: int(count)]
            shapes = shapes_of(model)
            checkpoint = folder / f"{size}-checkpoint" / Quantization(4, 128, len(calibration), 0).name
            amounts = {"calibration_tokens": len(calibration) * TOKENS}
            with table.measure("quantize", size, shapes, **amounts):
                quantize(model, checkpoint, Quantization.from_name(checkpoint.name), calibration, options, "cuda")
            if size not in scored:
                scored.add(size)
                with table.measure("verify", size, shapes):
                    verify_model(model)
                with table.measure("load", size, shapes):
                    dense = load_dense(checkpoint, "cuda")
                measure_engine(table, size, shapes, dense, prompts, rng)
                del dense
            if entry.startswith("plain:"):
                measure_plain(table, size, shapes, model, calibration, options, prompts, folder / "plain")


def requests_like(task: str, rng: np.random.Generator) -> tuple[list, list]:
    """Contexts and continuations of 1,000 items: letters after a prompt of 450 tokens, or four endings of 25 tokens."""
    words = lambda mean: rng.integers(1, 150_000, rng.integers(mean * 3 // 4, mean * 5 // 4 + 1)).tolist()  # noqa: E731
    contexts, continuations = [], []
    shared = [words(450) for _ in range(10)]
    for i in range(1000):
        context = [*shared[i // 100], *words(90)] if task == "letters" else words(80)
        contexts += [context] * 4
        continuations += [[11], [12], [13], [14]] if task == "letters" else [words(25) for _ in range(4)]
    return contexts, continuations


def measure_engine(table: Table, size: str, shapes: Shapes, model, prompts, rng) -> None:
    limits = {"tokens_a_batch": TOKENS_A_BATCH, "max_length": MAX_LENGTH}
    for task in ("letters", "endings"):
        contexts, continuations = requests_like(task, rng)
        plan = make_plan(contexts, continuations, **limits)
        with table.measure("score", size, shapes, tokens=plan.tokens, note=task):
            score(model, contexts, continuations, plan=plan, **limits)
    measure_generation(table, size, shapes, "ours", model, prompts, TOKENS_A_BATCH)


def measure_generation(table: Table, size: str, shapes: Shapes, way: str, model, prompts, tokens_a_batch: int) -> None:
    from true_shapes import word_tokenizer

    rows = tokens_a_batch // (PROMPT_TOKENS + NEW_TOKENS)
    steps = NEW_TOKENS * -(-PROMPTS // rows)
    with table.measure("generate", size, shapes, way, tokens=PROMPTS * PROMPT_TOKENS, steps=steps):
        limits = {"tokens_a_batch": tokens_a_batch, "max_length": MAX_LENGTH}
        generate(model, word_tokenizer(), prompts, stop=["\n"], max_new_tokens=NEW_TOKENS, **limits)


def measure_plain(
    table: Table, size: str, shapes: Shapes, model: Path, calibration, options, prompts, saved: Path
) -> None:
    """gptqmodel with the same options, then lm-eval's ``hf`` model on the packed checkpoint."""
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    from lm_eval.models.huggingface import HFLM
    from true_shapes import word_tokenizer

    config = QuantizeConfig(
        **{"bits": 4, "group_size": 128, "sym": True, "desc_act": False, "act_group_aware": False},
        **{"damp_percent": options.damping, "damp_auto_increment": 0.0, "fallback": None, "offload_to_disk": False},
    )
    with table.measure("quantize", size, shapes, "plain", calibration_tokens=len(calibration) * TOKENS):
        quantized = GPTQModel.load(str(model), config, device="cuda")
        rows = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in calibration]
        quantized.quantize(rows, batch_size=options.batch_size, calibration_sort=None, calibration_data_min_length=1)
        quantized.save(str(saved))
    del quantized
    gc.collect()
    torch.cuda.empty_cache()
    with table.measure("load", size, shapes, "plain"):
        packed = GPTQModel.load(str(saved), device="cuda", backend=BACKEND.TRITON).model
    lm = HFLM(
        pretrained=packed,
        tokenizer=word_tokenizer(),
        batch_size=PLAIN_BATCH,
        max_length=MAX_LENGTH,
        softmax_dtype="float32",
    )
    rng = np.random.default_rng(0)
    for task in ("letters", "endings"):
        contexts, continuations = requests_like(task, rng)
        requests = [((str(c), str(k)), c, k) for c, k in zip(contexts, continuations, strict=True)]
        rows = zip(contexts, continuations, strict=True)
        tokens = sum(map(len, {tuple([*context, *continuation][:-1]) for context, continuation in rows}))
        with table.measure("score", size, shapes, "plain", tokens=tokens, note=task):
            lm._loglikelihood_tokens(requests, disable_tqdm=True)
    measure_generation(table, size, shapes, "plain", packed, prompts, PLAIN_BATCH * (PROMPT_TOKENS + NEW_TOKENS))


def main(out: str, wanted: list[str]) -> None:
    table = Table(out)
    (measure_shapes if table.on_gpu else measure_ladder)(table, wanted)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
