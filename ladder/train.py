"""Train one rung on a stream that was written before: ``python -m ladder.train q3 --seed 0 --stream FOLDER``."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ladder.rungs import LEARNING_RATE, RUNGS, Rung
from ladder.stream import WEIGHT_UNIT, Recipe, Stream
from ladder.validation import validate
from ladder.vocabulary import END, PADDING, write_tokenizer
from ladder.world import World

RUNS = Path("results/ladder")
VALIDATION_ITEMS = 600
LOSSES = 200  # in loss.csv


class Training:
    """A model, its optimizer and its text on one device; ``take_step`` is the whole of a step, free of the host.

    The number of the step lives on the device, and with it learning rate and rows: a step can be a CUDA graph.
    """

    def __init__(self, rung: Rung, recipe: Recipe, seed: int, world: World, stream: Stream, device: str) -> None:
        vocabulary = world.vocabulary
        torch.manual_seed(seed)
        self.rung, self.recipe, self.device = rung, recipe, device
        self.model = rung.model(len(vocabulary), vocabulary[END], vocabulary[PADDING]).to(device)
        self.tokens, self.weights = (
            torch.from_numpy(np.array(part)).to(device) for part in (stream.tokens, stream.weights)
        )
        self.step = torch.zeros((), dtype=torch.long, device=device)
        self.rows = torch.arange(recipe.rows_per_step, device=device)
        self.losses = torch.zeros(recipe.steps, device=device)
        self.learning_rate = torch.zeros((), device=device)
        on_gpu = device == "cuda"
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=self.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=on_gpu,
        )
        self.loss = torch.compile(self._loss, dynamic=False) if on_gpu else self._loss

    def _loss(self, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Weighted mean cross-entropy (nats) of the next tokens; shapes (rows, row length)."""
        with torch.autocast(self.device, torch.bfloat16):
            hidden = self.model.model(tokens, use_cache=False).last_hidden_state[:, :-1]
            logits = self.model.lm_head(hidden)
        targets, weights = tokens[:, 1:].reshape(-1), weights[:, 1:].reshape(-1)
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="none")
        return (losses * weights).sum() / weights.sum()

    def scheduled_learning_rate(self) -> torch.Tensor:
        """Rise linearly, hold, and fall linearly to zero."""
        progress = (self.step + 0.5) / self.recipe.steps
        factor = torch.minimum(progress / self.recipe.warm_up, (1 - progress) / self.recipe.decay).clamp(max=1)
        return LEARNING_RATE * factor

    def take_step(self) -> None:
        rows = self.rows + self.step * self.recipe.rows_per_step
        tokens, weights = self.tokens[rows].long(), self.weights[rows].float() * WEIGHT_UNIT
        loss = self.loss(tokens, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clipping, foreach=True)
        self.learning_rate.copy_(self.scheduled_learning_rate())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.losses.index_copy_(0, self.step.view(1), loss.detach().float().view(1))
        self.step += 1

    def recorded_step(self) -> Callable[[], None]:
        """``take_step`` as a CUDA graph; a few steps are taken before it is recorded."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.take_step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.take_step()
        return graph.replay


def processor_name() -> str:
    """What the training ran on, in words."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "a CPU"


def train(rung_name: str, recipe: Recipe, seed: int, stream: Stream, folder: Path) -> None:
    """Train one rung and write the model (bf16), its tokenizer, ``loss.csv`` and ``training.json`` into ``folder``."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rung, world = RUNGS[rung_name], World()
    started = time.monotonic()
    training = Training(rung, recipe, seed, world, stream, device)
    step = training.recorded_step() if device == "cuda" else training.take_step
    prepared = time.monotonic()
    taken = int(training.step)
    for number in range(taken, recipe.steps):
        step()
        if (number + 1) % 1000 == 0:
            mean = float(training.losses[number - 99 : number + 1].mean())
            rate = (number + 1 - taken) * recipe.tokens / recipe.steps / (time.monotonic() - prepared)
            print(
                f"{rung_name} seed {seed}, step {number + 1} of {recipe.steps}: loss {mean:.3f}, {rate:,.0f} tokens/s",
                flush=True,
            )
    losses = training.losses.cpu()
    seconds = time.monotonic() - started

    folder.mkdir(parents=True, exist_ok=True)
    model = training.model.to(torch.bfloat16)
    model.save_pretrained(folder)
    write_tokenizer(world.vocabulary, folder)
    parts = torch.arange(recipe.steps).tensor_split(min(LOSSES, recipe.steps))
    rows = (f"{int(part[-1]) + 1},{float(losses[part].mean()):.4f}\n" for part in parts)
    (folder / "loss.csv").write_text("step,loss\n" + "".join(rows))
    record = {
        "rung": asdict(rung),
        "recipe": asdict(recipe),
        "seed": seed,
        "processor": processor_name(),
        "seconds": round(seconds),
        "validation": validate(model, world, VALIDATION_ITEMS),
    }
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rung", choices=RUNGS)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and of the text")
    parser.add_argument("--stream", type=Path, required=True, help="folder of the seed's text (ladder.stream)")
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = RUNS / f"{arguments.rung}-s{arguments.seed}"
    train(arguments.rung, Recipe(tokens=arguments.tokens), arguments.seed, Stream.read(arguments.stream), folder)


if __name__ == "__main__":
    main()
