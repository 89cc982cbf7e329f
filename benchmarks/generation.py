"""Seconds of greedy generations on a GPU: transformers' own path, plain and with stop strings, against the engine.

``python benchmarks/generation.py OUT.csv 1.7B 8B engine:14B`` (``engine:`` leaves the other sides out). Qwen3 shapes
with random bf16 weights, 256 prompts of 500 tokens that share nothing (``alone``), or 450 of them (``shots``); 64 and
256 new tokens. All sides answer the same prompts with the same model in one process. Exactness first: float32 tokens of
a ladder model equal those of one row at a time, whatever the number of rows; generations of bf16 that differ are
counted, with the distance of the two logits at which they part.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from true_shapes import VOCABULARY, random_model, word_tokenizer

from stratalaw.engine import decoding, generate, greedy

PROMPTS, PROMPT_TOKENS, SHARED = 256, 500, 450
TOKENS_PER_BATCH, MAX_LENGTH, PLAIN_ROWS = 16_384, 4096, 128
LADDER = Path(__file__).parents[1] / "ladder" / "models"


def timed(function: Callable[[], object]) -> tuple[float, object]:
    torch.cuda.synchronize()
    started = time.perf_counter()
    found = function()
    torch.cuda.synchronize()
    return time.perf_counter() - started, found


def check_float32() -> None:
    """Tokens of a ladder model in float32: by definition, and by the engine with many and few rows at once."""
    folder = LADDER / "q4"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().cuda()
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, len(tokenizer), length) for length in rng.integers(1, 150, 200)]
    new = 40
    expected = []
    with torch.inference_mode():
        for prompt in prompts:
            tokens = torch.from_numpy(prompt)[None].cuda()
            for _ in range(new):
                tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], 1)
                if tokens[0, -1] == tokenizer.eos_token_id:
                    break
            expected.append(tokens[0, len(prompt) :].tolist())
    for rows in (256, 16, 3):
        stopping = greedy.Stopping(tokenizer, [], frozenset([tokenizer.eos_token_id]))
        with patch.object(decoding, "MOST_ROWS", rows):
            found = decoding.decode(model, prompts, stopping, max_new_tokens=new, tokens_per_batch=2048)
        same = sum(row.tokens == tokens for row, tokens in zip(found, expected, strict=True))
        print(f"float32, {rows} rows at once: {same} of {len(prompts)} generations equal those of one row at a time")


def plain_generate(model, prompts: list[np.ndarray], new: int) -> list[list[int]]:
    """transformers' ``generate``, without a look at the texts."""
    found = []
    for start in range(0, len(prompts), PLAIN_ROWS):
        tokens = torch.from_numpy(np.array(prompts[start : start + PLAIN_ROWS])).cuda()
        mask = torch.ones_like(tokens)
        options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        found += model.generate(input_ids=tokens, attention_mask=mask, **options)[:, tokens.shape[1] :].tolist()
    return found


def compare_bf16() -> None:
    """Tokens of a ladder model in bf16: where generations part, how far apart its logits are."""
    folder = LADDER / "q4"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval().cuda()
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().cuda()
    text = (LADDER.parent / "benchmarks" / "paths.jsonl").read_text().splitlines()[:256]
    prompts = [np.array(tokenizer.encode(json.loads(line)["context"])) for line in text]
    stopping = greedy.Stopping(tokenizer, [], frozenset([tokenizer.eos_token_id]))
    new, gaps = 40, []
    found = decoding.decode(model, prompts, stopping, max_new_tokens=new, tokens_per_batch=16_384)
    for prompt, row in zip(prompts, found, strict=True):
        tokens = torch.from_numpy(prompt)[None].cuda()
        options = {"max_new_tokens": new, "do_sample": False, "pad_token_id": tokenizer.eos_token_id}
        theirs = model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), **options)[0].tolist()
        theirs = theirs[len(prompt) :]
        place = next((i for i, (a, b) in enumerate(zip(row.tokens, theirs, strict=False)) if a != b), None)
        if place is not None:
            before = torch.tensor([[*prompt, *theirs[:place]]]).cuda()
            logits = exact(before).logits[0, -1]
            gaps.append(float((logits[row.tokens[place]] - logits[theirs[place]]).abs()))
    print(
        f"bf16: {len(prompts) - len(gaps)} of {len(prompts)} generations equal; where the others part, the two logits"
    )
    print("are apart by (float32)", np.round(np.sort(gaps), 3).tolist())


def measure(size: str, note: str, new: int, table: Table, only_engine: bool) -> None:
    """All sides of one kind of prompts, or the engine alone."""
    model = random_model(size)
    model.generation_config.eos_token_id = None
    rng = np.random.default_rng(0)
    prompts = list(rng.integers(1, VOCABULARY, (PROMPTS, PROMPT_TOKENS)))
    if note == "shots":
        prompts = [np.concatenate([prompts[0][:SHARED], prompt[SHARED:]]) for prompt in prompts]
    tokenizer = word_tokenizer()
    tokenizer.eos_token = None
    limits = {"max_new_tokens": new, "tokens_per_batch": TOKENS_PER_BATCH}
    stopping = greedy.Stopping(tokenizer, ["\n"], frozenset())
    sides = {
        "engine": lambda: generate(model, tokenizer, prompts, stop=["\n"], max_length=MAX_LENGTH, **limits),
        "transformers": lambda: plain_generate(model, prompts, new),
    }
    if only_engine:
        del sides["transformers"]
    elif (note, new) == ("alone", 64):
        sides["transformers, with stop strings"] = lambda: greedy._generate_plainly(
            model, prompts, stopping, frozenset(), 0, **limits
        )
    sides["engine"]()  # compiles kernels
    with measured_parts() as parts:
        sides["engine"]()
    print(size, note, new, {name: [round(part, 3) for part in seconds] for name, seconds in parts.items()})
    for side, function in sides.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds, _ = timed(function)
        memory = torch.cuda.max_memory_allocated() / 2**30
        table.add(size=size, prompts=note, new_tokens=new, side=side, seconds=seconds, gib=memory)


@contextmanager
def measured_parts() -> Iterator[dict[str, list[float]]]:
    """Seconds of each prefill, and of each few steps."""
    parts: dict[str, list[float]] = {"prefill": [], "steps": [], "probe": []}
    prefill, take, probe = decoding._prefill, decoding.Steps.take, decoding._probe

    def noting(name: str, function: Callable) -> Callable:
        def run(*arguments):
            seconds, found = timed(lambda: function(*arguments))
            parts[name].append(seconds)
            return found

        return run

    with (
        patch.object(decoding, "_prefill", noting("prefill", prefill)),
        patch.object(decoding, "_probe", noting("probe", probe)),
        patch.object(decoding.Steps, "take", noting("steps", take)),
    ):
        yield parts


class Table:
    """Rows that are written as soon as they are measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict] = []

    def add(self, **row: object) -> None:
        self.rows.append({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})
        print(self.rows[-1], flush=True)
        pd.DataFrame(self.rows).to_csv(self.path, index=False)


def main(out: Path, sizes: list[str]) -> None:
    check_float32()
    compare_bf16()
    table = Table(out)
    for size in sizes:
        for note, new in (("alone", 64), ("shots", 64), ("alone", 256)):
            measure(size.removeprefix("engine:"), note, new, table, size.startswith("engine:"))
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
