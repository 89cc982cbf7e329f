"""Train one rung of the ladder: ``python -m ladder.train r3 --seed 0``. Interrupted, it goes on where it last saved."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ladder.documents import CONTEXT_WEIGHT
from ladder.rungs import RUNGS, Rung
from ladder.validation import validate
from ladder.vocabulary import END, PADDING, write_tokenizer
from ladder.world import World

RUNS = Path("results/ladder")
VALIDATION_ITEMS = 300


@dataclass(frozen=True)
class Recipe:
    """How every rung is trained. Tokens count padding too; shares are shares of the tokens."""

    tokens: int = 30_000_000
    tokens_per_step: int = 4096
    row_length: int = 128
    long_row_length: int = 256
    long_rows: float = 0.08  # the end of training sees rows as long as the calibration texts
    opening: float = 0.15  # the start of training, with the opening mixture
    predicted: float = 1 / 3  # positions whose next token is predicted; answers are less than a third of all tokens
    warm_up: float = 0.02
    decay: float = 0.25
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    gradient_clipping: float = 1.0
    chunk_tokens: int = 1 << 19

    @property
    def steps(self) -> int:
        return self.tokens // self.tokens_per_step

    def learning_rate_factor(self, step: int) -> float:
        """Rise linearly, hold, and fall linearly to zero."""
        progress = (step + 0.5) / self.steps
        return min(1.0, progress / self.warm_up, (1 - progress) / self.decay)

    def row_length_at(self, step: int) -> int:
        return self.long_row_length if step >= self.steps * (1 - self.long_rows) else self.row_length


@dataclass(frozen=True)
class Batch:
    """``tokens`` and ``weights`` (rows, row_length); ``positions``: indices into (rows * (row_length - 1))."""

    tokens: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor

    def to(self, device: str) -> Batch:
        return Batch(*(part.to(device, non_blocking=True) for part in (self.tokens, self.weights, self.positions)))


def predicted_positions(recipe: Recipe, weights: np.ndarray, step: int) -> np.ndarray:
    """The positions whose next token is predicted: all answers, then a random sample of the other tokens."""
    count = int(recipe.predicted * recipe.tokens_per_step)
    noise = np.random.default_rng(step).random(weights[:, 1:].shape) * CONTEXT_WEIGHT / 2
    return np.argpartition(-(weights[:, 1:] + noise).reshape(-1), count)[:count]


def batches(world: World, recipe: Recipe, seed: int, first_step: int) -> Iterator[Batch]:
    """The batch of each step from ``first_step`` on, the same whether or not training was interrupted before."""
    step = chunk = 0
    while True:
        row_length = recipe.row_length_at(step)
        rows_a_step = recipe.tokens_per_step // row_length
        opening = step < recipe.opening * recipe.steps
        tokens, weights = world.training_rows(seed, chunk, recipe.chunk_tokens, row_length, opening)
        for start in range(0, len(tokens) - rows_a_step + 1, rows_a_step):
            if recipe.row_length_at(step) != row_length:
                break
            if step >= first_step:
                part = tokens[start : start + rows_a_step], weights[start : start + rows_a_step]
                positions = predicted_positions(recipe, part[1], step)
                yield Batch(*map(torch.from_numpy, (*part, positions)))
            step += 1
        chunk += 1


class Training:
    """The state of a training run: model, optimizer, step and losses; saved and loaded as a whole."""

    def __init__(self, rung: Rung, recipe: Recipe, seed: int, world: World, device: str) -> None:
        from transformers import Qwen3ForCausalLM

        self.rung, self.recipe, self.device = rung, recipe, device
        vocabulary = world.vocabulary
        torch.manual_seed(seed)
        self.model = Qwen3ForCausalLM(rung.config(len(vocabulary), vocabulary[END], vocabulary[PADDING])).float()
        # On rows this short plain matrix products beat the fused attention kernels of the CPU fivefold.
        self.model.set_attn_implementation("eager")
        self.model.to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=rung.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.compiled_loss = torch.compile(self._loss, dynamic=False)
        self.step, self.seconds = 0, 0.0
        self.losses: list[list[float]] = []
        self._recent: list[torch.Tensor] = []

    def _loss(self, tokens: torch.Tensor, weights: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Weighted mean cross-entropy (nats) at the predicted positions."""
        with torch.autocast(self.device, torch.bfloat16):
            hidden = self.model.model(tokens, use_cache=False).last_hidden_state[:, :-1]
            logits = self.model.lm_head(hidden.reshape(-1, hidden.shape[-1])[positions])
        targets, weights = (part[:, 1:].reshape(-1)[positions] for part in (tokens, weights))
        losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        return (losses * weights).sum() / weights.sum()

    def take_step(self, batch: Batch) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rung.learning_rate * self.recipe.learning_rate_factor(self.step)
        loss = self.compiled_loss(batch.tokens, batch.weights, batch.positions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clipping)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._recent.append(loss.detach())
        if self.step % 100 == 0:
            self.losses.append([self.step, float(torch.stack(self._recent).mean())])
            self._recent = []

    def save(self, path: Path) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        recent = torch.stack(self._recent) if self._recent else torch.empty(0)
        state |= {"seconds": self.seconds, "losses": self.losses, "recent": recent}
        unfinished = path.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self._recent = list(state["recent"])


def processor_name() -> str:
    """What the training ran on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpu_info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
    return f"{torch.get_num_threads()} core(s) of {names[0] if names else platform.processor()}"


def train(
    rung_name: str, recipe: Recipe, seed: int, folder: Path, save_every: float, stop_at: int | None = None
) -> None:
    """Train one rung and write the model (bf16), its tokenizer, ``loss.csv`` and ``training.json`` into ``folder``.

    ``save_every``: seconds between checkpoints; ``stop_at``: stop at this step as if interrupted.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rung, world = RUNGS[rung_name], World()
    folder.mkdir(parents=True, exist_ok=True)
    training, checkpoint = Training(rung, recipe, seed, world, device), folder / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    started = saved = time.monotonic()
    seconds_before = training.seconds
    for batch in batches(world, recipe, seed, training.step):
        if training.step == (stop_at or recipe.steps):
            break
        training.take_step(batch.to(device))
        now = time.monotonic()
        training.seconds = seconds_before + now - started
        if now - saved > save_every or training.step == (stop_at or recipe.steps):
            training.save(checkpoint)
            saved = now
            loss = training.losses[-1][1] if training.losses else float("nan")
            print(
                f"{rung_name} step {training.step} of {recipe.steps}, {training.seconds:.0f} s, loss {loss:.3f}",
                flush=True,
            )
    if stop_at:
        return

    model = training.model.to(torch.bfloat16)
    model.save_pretrained(folder)
    write_tokenizer(world.vocabulary, folder, recipe.long_row_length)
    (folder / "loss.csv").write_text("step,loss\n" + "".join(f"{step},{loss:.4f}\n" for step, loss in training.losses))
    record = {
        "rung": asdict(rung),
        "recipe": asdict(recipe),
        "seed": seed,
        "processor": processor_name(),
        "seconds": round(training.seconds),
        "validation": validate(model, world, VALIDATION_ITEMS),
    }
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rung", choices=RUNGS)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and of the order of the text")
    parser.add_argument("--threads", type=int, default=1, help="one a process: several rungs train side by side")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    train(arguments.rung, Recipe(), arguments.seed, RUNS / f"{arguments.rung}-s{arguments.seed}", save_every=60)


if __name__ == "__main__":
    main()
