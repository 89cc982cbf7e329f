"""A study of small models on one GPU, through the workflow: seconds per variant, and where they go.

``python benchmarks/many_variants.py OUT.csv JOBS_PER_GPU MODEL/VARIANTS …``, such as ``3 135M/20`` (20 variants of the
shape of SmolLM2 135M) or ``3 135M/27 360M/27 1.7B/27`` (nearly all of config/smollm2.yaml). Random weights; nine
benchmarks of 500 items, and one of 200 answers of at most 96 tokens; profiles/workstation. Models, calibration and
requests are made before the clock starts. One row per job: ``seconds`` as its audit or Snakemake counts them, and from
when to when it was performed in its process (seconds from the start; the file system must say when a log was made). One
row for the whole. Printed is what a job takes beside its work, ``start`` of src/stratalaw/cost/rates.csv.
"""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM
from true_shapes import word_tokenizer

from stratalaw.cost.runs import TIMED
from stratalaw.layout import Results
from stratalaw.models.folder import AUDIT

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY, TOKENS, SAMPLES = 49_152, 2048, 128
ITEMS, GENERATIONS, NEW_TOKENS = 500, 200, 96
# Of SmolLM2: hidden size, intermediate size, layers, query heads, key-value heads.
SHAPES = {"135M": (576, 1536, 30, 9, 3), "360M": (960, 2560, 32, 15, 5), "1.7B": (2048, 8192, 24, 32, 32)}
# As config/smollm2.yaml, in an order in which any number of first ones is a mixture.
GRID = [(bits, group, size) for group, size, bits in itertools.product((64, 32, 16), (8, 128, 32), (4, 3, 2))]
RNG = np.random.default_rng(0)


def words(mean: int) -> str:
    """About so many words."""
    length = RNG.integers(mean * 3 // 4, mean * 5 // 4 + 1)
    return " ".join(f"w{i}" for i in RNG.integers(1, VOCABULARY, length))


def save_model(name: str, folder: Path) -> None:
    """A model of a shape, with random weights and a tokenizer of words."""
    hidden, intermediate, layers, heads, key_value_heads = SHAPES[name]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    word_tokenizer(VOCABULARY).save_pretrained(folder)


def write_task(folder: Path, name: str, rows: list[dict[str, object]], **settings: object) -> None:
    """A task of lm-eval."""
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{answer}}",
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task | settings))


def write_study(folder: Path, wanted: dict[str, int]) -> None:
    """The study, with its models, tasks and calibration text."""
    tasks = folder / "tasks"
    tasks.mkdir()
    for number in range(9):
        rows = [{"context": words(80), "choices": [words(12) for _ in range(4)], "answer": i % 4} for i in range(ITEMS)]
        choice = {"output_type": "multiple_choice", "doc_to_choice": "choices", "metric_list": [{"metric": "acc"}]}
        write_task(tasks, f"choice_{number}", rows, **choice)
    written = [{"context": words(120), "answer": words(4)} for _ in range(GENERATIONS)]
    write_task(
        tasks,
        "written",
        written,
        output_type="generate_until",
        generation_kwargs={"until": ["w1 w2"], "max_gen_toks": NEW_TOKENS},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    texts = [{"text": words(TOKENS * 3 // 2)} for _ in range(2 * SAMPLES)]
    (folder / "text.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    for name in wanted:
        save_model(name, folder / "models" / name)
    names = [f"choice_{number}" for number in range(9)]
    strata = {"memorization": names[:3], "application": names[3:6], "reasoning": names[6:]}
    evaluation = {stratum: [{"task": name, "chance": 0.25} for name in of] for stratum, of in strata.items()}
    evaluation["memorization"].append({"task": "written", "metric": "exact_match", "chance": 0})
    study = {
        "name": "many",
        "models": [{"name": name, "source": f"models/{name}", "family": "smollm2"} for name in wanted],
        "grids": [{"bits": [2, 3, 4], "group_size": [16, 32, 64], "calibration_size": [8, 32, 128]}],
        "calibration": {"corpus": "text.jsonl", "tokens": TOKENS},
        "evaluation": {"items": ITEMS, "tokens_per_batch": 16_384, "tasks_folder": "tasks", "strata": evaluation},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def snakemake(folder: Path, jobs_per_gpu: int, *targets: str) -> float:
    """Seconds of a run."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--profile", str(ROOT / "profiles" / "workstation"), "--configfile", "study.yaml"]
    command += ["--resources", f"gpu={jobs_per_gpu}", "--config", f"jobs_per_gpu={jobs_per_gpu}", "--", *targets]
    started = time.perf_counter()
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
    return time.perf_counter() - started


def performed(log: Path) -> tuple[float, float]:
    """When the job of a log was begun and ended in its process, in seconds since 1970."""
    times = subprocess.run(["stat", "--format=%.3W %.3Y", log], capture_output=True, text=True, check=True).stdout
    began, ended = map(float, times.split())
    return began, ended


def start_of_jobs(on_gpu: Sequence[tuple[float, float]], unaudited: Sequence[float], places: int) -> float:
    """What a job takes beside its work, in a process that is there: from the end of a job to the beginning of the next
    at its place, whichever that is, and what the audit of a checkpoint does not count.

    Args:
        on_gpu: when the jobs with a GPU began and ended in their processes.
        unaudited: of the jobs that quantize, in the order of their beginnings; the first of each place load libraries.
        places: how many jobs share the GPU.
    """
    begins, ends = sorted(began for began, _ in on_gpu), sorted(ended for _, ended in on_gpu)
    between = np.mean(begins[places:]) - np.mean(ends[:-places])
    print(f"between two jobs {between:.2f} s, beside the audit {np.mean(unaudited[places:]):.2f} s")
    return float(between + np.mean(unaudited[places:]))


def prepare(folder: Path, jobs_per_gpu: int, wanted: dict[str, int]) -> float:
    """Make models, requests and calibration samples; the seconds of it."""
    write_study(folder, wanted)
    results = Results()
    made_before = [str(results.batches(name, "application")) for name in wanted]
    made_before += [str(results.calibration(name, "s0")) for name in wanted]
    return snakemake(folder, jobs_per_gpu, *made_before)


def measure(folder: Path, out: Path, jobs_per_gpu: int, wanted: dict[str, int]) -> None:
    """Make the variants, and write the table."""
    results = Results()
    variants = [
        (name, f"w{bits}-g{group}-c{size}-s0") for name, count in wanted.items() for bits, group, size in GRID[:count]
    ]
    began = time.time()
    seconds = snakemake(folder, jobs_per_gpu, *(str(results.accuracies(*variant, "reasoning")) for variant in variants))
    on_gpu, unaudited = [], {}
    with out.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["stage", "model", "variant", "seconds", "begins", "ends"])
        for model, variant in variants:
            name = f"{model}/{variant}"
            took = {
                "checkpoints": json.loads((folder / results.checkpoint(model, variant) / AUDIT).read_text())["seconds"]
            }
            for stage in TIMED:
                took[stage] = (folder / results.timing(stage, name)).read_text().splitlines()[1].split("\t")[0]
            for stage, counted in took.items():
                times = performed(folder / results.log(stage, name))
                rows.writerow([stage, model, variant, counted, *(f"{moment - began:.2f}" for moment in times)])
                if stage != "scores":
                    on_gpu.append(times)
                if stage == "checkpoints":
                    unaudited[times[0]] = times[1] - times[0] - counted
        rows.writerow(["all", "", "", f"{seconds:.1f}", "", ""])
    print(f"{len(variants)} variants: {seconds:.1f} s, {seconds / len(variants):.2f} s each", flush=True)
    started = start_of_jobs(on_gpu, [took for _, took in sorted(unaudited.items())], jobs_per_gpu)
    print(f"start of a job: {started:.2f} s", flush=True)


def main(out: str, jobs_per_gpu: int, wanted: dict[str, int]) -> None:
    """Prepare, and measure."""
    with tempfile.TemporaryDirectory() as scratch:
        print(f"models, requests and calibration: {prepare(Path(scratch), jobs_per_gpu, wanted):.1f} s", flush=True)
        measure(Path(scratch), Path(out), jobs_per_gpu, wanted)


if __name__ == "__main__":
    _, target, jobs, *shapes = sys.argv
    main(target, int(jobs), {name: int(count) for name, _, count in (shape.partition("/") for shape in shapes)})
