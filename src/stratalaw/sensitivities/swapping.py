"""A model with some parts of other checkpoints of it, in place: nothing is quantized anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from stratalaw.models.allocation import loaded_as
from stratalaw.models.shapes import Matrix

COPIES_OF_PASSES = 2  # what passes take, in sizes of the model


def parameters_of_groups(model: PreTrainedModel, matrices: Iterable[Matrix]) -> dict[str, list[str]]:
    """The parameters of a model that make up each group of matrices with bits of its own, by the group's name.

    Raises:
        ValueError: the model has no parameter for a group.
    """
    groups: dict[str, list[str]] = {loaded_as(matrix.name): [] for matrix in matrices}
    for name, _ in model.named_parameters():
        module = name.removesuffix(".weight")
        whole = loaded_as(module)
        owner = whole if whole in groups else module.rpartition(".")[0]  # experts are one tensor of the model
        if owner in groups and not name.endswith(".bias"):
            groups[owner].append(name)
    if missing := [group for group, names in groups.items() if not names]:
        raise ValueError(f"the model has no parameter for {missing[0]}")
    return groups


def is_small(model: PreTrainedModel, n_others: int) -> bool:
    """Whether the device of a model would hold it, the weights of so many other checkpoints, and what passes take."""
    if model.device.type != "cuda":
        return True
    copies = 1 + n_others + COPIES_OF_PASSES
    return bool(copies * model.get_memory_footprint() <= torch.cuda.mem_get_info(model.device)[1])


@contextmanager
def swapped(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Within this context some parameters of a model have other values.

    Args:
        model: changed in place, and as it was afterwards.
        weights: the values, by the parameter's name.
    """
    former = {name: model.get_parameter(name).detach().clone() for name in weights}
    try:
        _put(model, weights)
        yield
    finally:
        _put(model, former)


def _put(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            model.get_parameter(name).copy_(weight)
