"""Passes that go on from a layer: what the layers before it made of the tokens is kept, as long as these do not change.

Where the weights of one layer after the other are tried, half of all layers need not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch
from transformers import PreTrainedModel

from stratalaw.engine.attention import tree_attention
from stratalaw.engine.batches import Batching, make_batching
from stratalaw.engine.fusion import fused_steps
from stratalaw.engine.plain import LogLikelihoods
from stratalaw.engine.shared import last_hidden_states, obstacle, run


class NotResumable(ValueError):
    """A model whose layers do not hand on one tensor and nothing else."""


def decoder_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The layers of a model in their order; none if it does not have them in a list."""
    layers = getattr(model.get_decoder(), "layers", None)
    return list(layers) if isinstance(layers, torch.nn.ModuleList) else []


class ResumedPasses:
    """The passes of some batchings through a model, of which those layers run that come from one layer on.

    What is kept are the inputs of that layer, on the model's device.

    Args:
        model: one that ``can_resume``.
        batchings: see ``make_batching``.

    Attributes:
        layer: the number of the first layer that runs.
    """

    def __init__(self, model: PreTrainedModel, batchings: Sequence[Batching]) -> None:
        self.model, self.batchings, self.layer = model, batchings, 0
        self._layers = decoder_layers(model)
        self._inputs: list[torch.Tensor] = []

    def log_likelihoods(self) -> list[LogLikelihoods]:
        """Those of the requests of each batching, as ``log_likelihoods`` has them."""
        with self._resumed():
            return [run(self.model, batching) for batching in self.batchings]

    @torch.inference_mode()
    def advance(self) -> None:
        """Run the first layer, with the weights that it has now, and keep what it gives for the passes after this.

        Raises:
            NotResumable: it gives something else than one tensor.
        """
        outputs: list[torch.Tensor] = []

        def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
            if not isinstance(output, torch.Tensor):
                raise NotResumable(f"{type(module).__name__} gives more than hidden states")
            outputs.append(output)

        with self._resumed(), tree_attention(self.model), fused_steps(self.model), ExitStack() as replaced:
            for layer in self._layers[self.layer + 1 :]:
                replaced.enter_context(patch.object(layer, "forward", _unchanged))
            handle = self._layers[self.layer].register_forward_hook(keep)
            replaced.callback(handle.remove)
            for batching in self.batchings:
                for batch in batching.batches:
                    last_hidden_states(self.model, batch)
        self._inputs = outputs
        self.layer += 1

    @contextmanager
    def _resumed(self) -> Iterator[None]:
        """Within this context each pass, in the order of the batches, begins with what is kept of it."""
        with ExitStack() as replaced:
            for layer in self._layers[: max(self.layer - 1, 0)]:
                replaced.enter_context(patch.object(layer, "forward", _unchanged))
            if self.layer:
                last = self._layers[self.layer - 1]
                replaced.enter_context(patch.object(last, "forward", _given(iter(self._inputs))))
            yield


def can_resume(model: PreTrainedModel) -> bool:
    """Whether a small prefix tree gives the same bits from whichever layer its passes go on."""
    layers = decoder_layers(model)
    if not layers or obstacle(model) is not None:
        return False
    vocabulary = model.config.get_text_config().vocab_size
    rng = np.random.default_rng(0)
    context = rng.integers(vocabulary, size=24)
    contexts = [np.append(context, branch) for branch in rng.integers(vocabulary, size=(3, 2))]
    limits = {"tokens_per_batch": 256, "max_length": 64}
    passes = ResumedPasses(model, [make_batching(contexts, list(rng.integers(vocabulary, size=(3, 3))), **limits)])
    (whole,) = passes.log_likelihoods()
    try:
        for _ in range(len(layers) - 1):
            passes.advance()
            (resumed,) = passes.log_likelihoods()
            if not np.array_equal(resumed.total, whole.total):
                return False
    except (NotResumable, FloatingPointError):
        return False
    return True


def _unchanged(hidden_states: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
    return hidden_states


def _given(kept: Iterator[torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda *arguments, **options: next(kept)
