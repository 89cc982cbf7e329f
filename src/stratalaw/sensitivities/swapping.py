"""A model with some parts of another checkpoint of it, in place: nothing is quantized anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from stratalaw.models.allocation import loaded_as
from stratalaw.models.shapes import Matrix

COPIES = 4  # a model, the weights of another checkpoint, and twice as much for what passes take


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


def is_small(model: PreTrainedModel) -> bool:
    """Whether the device of a model would hold ``COPIES`` of it."""
    if model.device.type != "cuda":
        return True
    return bool(COPIES * model.get_memory_footprint() <= torch.cuda.mem_get_info(model.device)[1])


@contextmanager
def swapped(
    model: PreTrainedModel,
    other: Mapping[str, torch.Tensor],
    groups: Mapping[str, Collection[str]],
    chosen: Iterable[str],
) -> Iterator[None]:
    """Within this context some groups of a model have the weights of another checkpoint.

    Args:
        model: changed in place, and as it was afterwards.
        other: the parameters of the other checkpoint, by name.
        groups: the names of the parameters of each group; see ``parameters_of_groups``.
        chosen: names of groups.
    """
    names = [name for group in chosen for name in groups[group]]
    former = {name: model.get_parameter(name).detach().clone() for name in names}
    try:
        _put(model, {name: other[name] for name in names})
        yield
    finally:
        _put(model, former)


def _put(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            model.get_parameter(name).copy_(weight)
