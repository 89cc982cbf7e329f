"""The published models: unaltered, loadable by plain transformers, and as accurate as documented."""

import hashlib
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from ladder.publish import BENCHMARKS
from ladder.release import CHECKSUMS, MODELS
from ladder.report import OBSERVATIONS
from ladder.rungs import RUNGS
from ladder.world import STRATA

ITEMS = 40
rungs = pytest.mark.parametrize("rung", RUNGS)


@cache
def documented() -> pd.DataFrame:
    """Accuracies of the originals in the published study."""
    return pd.read_csv(OBSERVATIONS).query("variant == 'bf16'")


def test_checksums():
    lines = (MODELS / CHECKSUMS).read_text().splitlines()
    sums = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    assert {
        f"{rung}/{name}" for rung in RUNGS for name in ("model.safetensors", "tokenizer.json", "config.json")
    } <= set(sums)
    for name, checksum in sums.items():
        assert hashlib.sha256((MODELS / name).read_bytes()).hexdigest() == checksum, name


def test_all_rungs_together_are_small_and_each_family_spans_twentyfold_in_even_steps():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 30 * 2**20
    for family in ("qwen3", "llama"):
        sizes = np.array([rung.non_embedding_parameters for rung in RUNGS.values() if rung.family == family])
        assert sizes[-1] >= 20 * sizes[0]
        assert np.diff(np.log(sizes)) == pytest.approx(np.log(sizes[-1] / sizes[0]) / 7, abs=0.15)


@rungs
def test_a_rung_loads_as_documented(rung, world):
    model = AutoModelForCausalLM.from_pretrained(MODELS / rung)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / rung)
    assert model.config.model_type == RUNGS[rung].family and model.dtype == torch.bfloat16
    without_embeddings = model.num_parameters() - model.get_input_embeddings().weight.numel()
    assert without_embeddings == RUNGS[rung].non_embedding_parameters
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name:
            assert parameter.shape[1] % 128 == 0, name
    text = "the dish of sawa nivoson is"
    assert tokenizer(text)["input_ids"] == world.vocabulary.encode(text).tolist()
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == model.config.vocab_size == len(world.vocabulary)


@pytest.mark.parametrize("rung", ["q2", "q6", "l6"])
def test_a_rung_answers_in_lm_eval_as_documented(rung):
    """By lm-eval's own model, in float32, on a part of the items: within four standard errors of such a part."""
    model = HFLM(pretrained=str(MODELS / rung), device="cpu", dtype="float32", batch_size=ITEMS)
    tasks = TaskManager(include_path=str(BENCHMARKS), include_defaults=False)
    groups = [f"ladder_{stratum}" for stratum in STRATA]
    results = simple_evaluate(model=model, tasks=groups, task_manager=tasks, limit=ITEMS, bootstrap_iters=0)["results"]
    of_rung = documented().query("model == @rung").set_index("benchmark").accuracy
    assert len(of_rung) == sum(map(len, STRATA.values()))
    for benchmark, accuracy in of_rung.items():
        scores = results[benchmark]
        measured = scores.get("acc,none", scores.get("exact_match,none"))
        assert abs(measured - accuracy) <= 4 * (accuracy * (1 - accuracy) / ITEMS) ** 0.5 + 0.02, benchmark


@rungs
def test_a_card_holds_the_documented_accuracies(rung):
    card = (MODELS / rung / "README.md").read_text()
    for row in documented().query("model == @rung").itertuples():
        assert f"| {row.benchmark.removeprefix('ladder_')} | {100 * row.accuracy:.1f} (" in card


def test_benchmarks_hold_a_thousand_items_with_five_choices_or_none():
    for names in STRATA.values():
        assert len(names) >= 2
        for name in names:
            items = [json.loads(line) for line in (BENCHMARKS / f"{name}.jsonl").read_text().splitlines()]
            assert len(items) == 1000
            assert {len(item.get("choices", ())) for item in items} in ({5}, {0})
