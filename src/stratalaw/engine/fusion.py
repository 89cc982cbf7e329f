"""Steps that a model takes in several passes over memory, taken in one on a GPU.

transformers computes norms, rotations and gates one elementary operation after the other; on a GPU each reads and
writes all activations. Within ``fused_steps`` the modules of a model that compute exactly these use one kernel each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MethodType, ModuleType
from typing import Any
from unittest.mock import patch

import torch

ROTATION = "apply_rotary_pos_emb"  # as modules of transformers call it
TRIED_TOKENS = 3
Step = Callable[..., Any]  # tensors in, a tensor or several out


@contextmanager
def fused_steps(model: torch.nn.Module) -> Iterator[None]:
    """Within this context a model on a GPU, or one of its layers, takes norms, rotations and gates in one pass each.

    A step is replaced where the kernel gives the same for random activations; the others stay as they are.
    """
    like = next(model.parameters(), None)
    if like is None or like.device.type != "cuda":
        yield
        return
    with ExitStack() as replaced:
        for owner, name, step in _fused(model, like):
            replaced.enter_context(patch.object(owner, name, step))
        yield


def share_steps(model: torch.nn.Module, copy: torch.nn.Module) -> None:
    """Have a copy of a model, as on another GPU, take the steps of its modules with its own weights.

    A copied module keeps the bound methods of the original in its attributes, and so the weights of the original.
    """
    for module, copied in zip(model.modules(), copy.modules(), strict=True):
        step = vars(module).get("forward")
        if isinstance(step, MethodType) and step.__self__ is module:
            copied.forward = MethodType(step.__func__, copied)


def _fused(model: torch.nn.Module, like: torch.Tensor) -> Iterator[tuple[torch.nn.Module | ModuleType, str, Step]]:
    """What is replaced (owner, attribute) and by what, tried on activations of the type and device of ``like``."""
    from stratalaw.engine import kernels

    # Seeded: what is replaced must not differ between runs.
    generator = torch.Generator(like.device).manual_seed(0)
    random = partial(torch.randn, generator=generator, dtype=like.dtype, device=like.device)
    verdicts: dict[type, bool] = {}
    rotations = set()
    modules: Iterator[Any] = model.modules()
    for module in modules:
        if {"weight", "variance_epsilon"} <= vars(module).keys() | module._parameters.keys():
            step = _norm(module, kernels.rms_norm)
        elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
            step = _gated(module, kernels.silu_product)
        else:
            if hasattr(sys.modules[type(module).__module__], ROTATION):
                rotations.add(type(module).__module__)
            continue
        kind = type(module)
        if kind not in verdicts:
            width = (module.gate_proj if hasattr(module, "gate_proj") else module).weight.shape[-1]
            x = random(1, TRIED_TOKENS, width)
            verdicts[kind] = _agree(module.forward, step, x)
        if verdicts[kind]:
            yield module, "forward", step
    for name in sorted(rotations):
        former = getattr(sys.modules[name], ROTATION)
        step = _rotation(former, kernels.rotate)
        query, key, cos, sin = random(4, 2, 2, TRIED_TOKENS, 8)
        if _agree(former, step, query, key, cos[:, 0], sin[:, 0]):
            yield sys.modules[name], ROTATION, step


def _norm(module: Any, kernel: Step) -> Step:
    return MethodType(lambda self, x: kernel(x, self.weight, self.variance_epsilon), module)


def _gated(module: Any, kernel: Step) -> Step:
    return MethodType(lambda self, x: self.down_proj(kernel(self.gate_proj(x), self.up_proj(x))), module)


def _rotation(former: Step, kernel: Step) -> Step:
    def rotate(
        query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
    ) -> Any:
        if unsqueeze_dim != 1 or query.shape[-1] != cos.shape[-1]:
            return former(query, key, cos, sin, unsqueeze_dim=unsqueeze_dim)
        for row in range(len(query)):
            angles = (cos[row % len(cos)][None], sin[row % len(sin)][None])
            kernel(query[row][None], *angles)  # in place
            kernel(key[row][None], *angles)
        return query, key

    return rotate


def _agree(former: Step, step: Step, *arguments: torch.Tensor) -> bool:
    """Whether two steps give the same, to the rounding of the data type."""
    try:
        expected, fused = (
            _flat(function(*(argument.clone() for argument in arguments))) for function in (former, step)
        )
    except (RuntimeError, TypeError, ValueError):
        return False
    return bool((fused - expected).norm() <= expected.norm() * torch.finfo(expected.dtype).eps)


def _flat(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    parts = output if isinstance(output, tuple) else (output,)
    return torch.cat([part.flatten() for part in parts])
