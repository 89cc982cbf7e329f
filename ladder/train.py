"""Train a rung of the ladder: ``python -m ladder.train r3 --seed 0``. Interrupted, it goes on where it saved last."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ladder.documents import CONTEXT_WEIGHT
from ladder.holdout import Split
from ladder.items import Item
from ladder.rungs import RUNGS, Rung
from ladder.vocabulary import END, PADDING, write_tokenizer
from ladder.world import World


@dataclass(frozen=True)
class Recipe:
    """How every rung is trained; tokens count padding too."""

    tokens: int = 34_000_000
    tokens_a_step: int = 4096
    row_length: int = 128
    long_row_length: int = 256
    opening: float = 0.12  # share of the tokens, at the start, of the opening mixture
    long_rows: float = 0.08  # share of the tokens, at the end, in long rows
    warm_up: float = 0.02
    decay: float = 0.25
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    gradient_clipping: float = 1.0
    chunk_tokens: int = 1 << 19
    predicted_share: float = 1 / 3  # of the positions; answers are less than a third of all tokens

    @property
    def steps(self) -> int:
        return self.tokens // self.tokens_a_step

    def learning_rate_factor(self, step: int) -> float:
        """Warm up linearly, hold, and decay linearly to zero."""
        progress = (step + 0.5) / self.steps
        return min(1.0, progress / self.warm_up, (1 - progress) / self.decay)

    def row_length_at(self, step: int) -> int:
        return self.long_row_length if step >= self.steps * (1 - self.long_rows) else self.row_length


def predicted_positions(recipe: Recipe, weights: np.ndarray, step: int) -> torch.Tensor:
    """The positions whose next token is predicted: all answers, then a random sample of the other tokens."""
    count = int(recipe.predicted_share * recipe.tokens_a_step)
    noise = np.random.default_rng(step).random(weights[:, 1:].shape) * CONTEXT_WEIGHT / 2
    return torch.from_numpy(np.argpartition(-(weights[:, 1:] + noise).reshape(-1), count)[:count])


def batches(world: World, recipe: Recipe, seed: int, first_step: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Token ids, loss weights and predicted positions of each step from ``first_step`` on."""
    step = chunk = 0
    while True:
        row_length = recipe.row_length_at(step)
        rows_a_step = recipe.tokens_a_step // row_length
        opening = step < recipe.opening * recipe.steps
        tokens, weights = world.training_rows(seed, chunk, recipe.chunk_tokens, row_length, opening)
        for start in range(0, len(tokens) - rows_a_step + 1, rows_a_step):
            if recipe.row_length_at(step) != row_length:
                break
            if step >= first_step:
                rows = slice(start, start + rows_a_step)
                yield (
                    *(torch.from_numpy(part[rows]) for part in (tokens, weights)),
                    predicted_positions(recipe, weights[rows], step),
                )
            step += 1
        chunk += 1


@torch.inference_mode()
def accuracy_by_subtask(model, world: World, items: list[Item], batch: int = 256) -> dict[str, float]:
    """Share of items whose right choice has the highest log-likelihood (float32), by subtask and for all."""
    device = next(model.parameters()).device
    encode, rows = world.vocabulary.encode, []
    for item in items:
        context = encode(item.context)
        rows += [(np.concatenate([context, encode(choice)]), len(context)) for choice in item.choices]
    log_likelihood = torch.empty(len(rows))
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        tokens = torch.zeros(len(part), max(len(row) for row, _ in part), dtype=torch.long)
        scored = torch.zeros(tokens.shape, dtype=torch.bool)
        for i, (row, context_length) in enumerate(part):
            tokens[i, : len(row)] = torch.from_numpy(row)
            scored[i, context_length : len(row)] = True
        logits = model(tokens.to(device), use_cache=False).logits[:, :-1].float().cpu()
        chosen = logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).squeeze(2)
        log_likelihood[start : start + len(part)] = (chosen * scored[:, 1:]).sum(1)
    right = log_likelihood.view(len(items), -1).argmax(1) == torch.tensor([item.label for item in items])
    groups = defaultdict(list)
    for item, is_right in zip(items, right.tolist(), strict=True):
        groups["all"].append(is_right)
        groups[item.subtask].append(is_right)
    return {name: float(np.mean(values)) for name, values in sorted(groups.items())}


def validate(model, world: World, count: int = 300) -> dict[str, dict[str, float]]:
    """Accuracy on validation items, which no benchmark contains."""
    model.eval()
    result = {
        benchmark.name: accuracy_by_subtask(model, world, world.items(benchmark, count, Split.VALIDATION))
        for benchmark in world.benchmarks
    }
    model.train()
    return result


def train(rung: Rung, recipe: Recipe, seed: int, folder: Path, device: str, report_every: float) -> None:
    """Train one rung; writes the model (bf16), its tokenizer, ``loss.csv`` and ``training.json`` into ``folder``."""
    from transformers import Qwen3ForCausalLM

    world = World()
    vocabulary = world.vocabulary
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(rung.config(len(vocabulary), vocabulary[END], vocabulary[PADDING])).float().to(device)
    model.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rung.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
    )

    def weighted_loss(tokens: torch.Tensor, weights: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            hidden = model.model(tokens, use_cache=False).last_hidden_state[:, :-1]
            logits = model.lm_head(hidden.reshape(-1, rung.width)[positions])
        losses = torch.nn.functional.cross_entropy(
            logits.float(), tokens[:, 1:].reshape(-1)[positions], reduction="none"
        )
        weights = weights[:, 1:].reshape(-1)[positions]
        return (losses * weights).sum() / weights.sum()

    compiled_loss = torch.compile(weighted_loss, dynamic=False)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, first_step, seconds, losses = folder / "checkpoint.pt", 0, 0.0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_step, seconds, losses = state["step"], state["seconds"], state["losses"]

    started, last_report = time.monotonic(), 0.0
    running = []
    stream = batches(world, recipe, seed, first_step)
    for step in range(first_step, recipe.steps):
        batch = (part.to(device, non_blocking=True) for part in next(stream))
        for group in optimizer.param_groups:
            group["lr"] = rung.learning_rate * recipe.learning_rate_factor(step)
        loss = compiled_loss(*batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clipping)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running.append(loss.detach())
        if (step + 1) % 100 == 0:
            losses.append([step + 1, float(torch.stack(running).mean())])
            running = []
        now = time.monotonic() - started
        if now - last_report > report_every or step + 1 == recipe.steps:
            last_report = now
            scores = validate(model, world)
            print(f"step {step + 1}/{recipe.steps} {now:.0f} s loss {losses[-1][1] if losses else float('nan'):.3f}")
            for name, by_subtask in scores.items():
                print(
                    "   ", name, " ".join(f"{subtask} {100 * a:.0f}" for subtask, a in by_subtask.items()), flush=True
                )
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state | {"seconds": seconds + now, "losses": losses}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").rename(checkpoint)

    seconds += time.monotonic() - started
    model.to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(vocabulary, folder, recipe.long_row_length)
    (folder / "loss.csv").write_text("step,loss\n" + "".join(f"{s},{loss:.4f}\n" for s, loss in losses))
    record = {
        "rung": asdict(rung),
        "recipe": asdict(recipe),
        "seed": seed,
        "seconds": round(seconds),
        "validation": scores,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rung", choices=RUNGS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report-every", type=float, default=120)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe(tokens=arguments.tokens)
    train(RUNGS[arguments.rung], recipe, arguments.seed, arguments.out, device, arguments.report_every)


if __name__ == "__main__":
    main()
