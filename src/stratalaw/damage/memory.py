"""What the weights of a variant take, from the shapes of its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from stratalaw.models.allocation import read_quantization
from stratalaw.models.folder import verify_beside_weights
from stratalaw.models.shapes import Shapes, shapes_of_weights
from stratalaw.study.variants import BASELINE_NAME, Quantization


def weight_bytes(
    model_folder: Path, variants: Iterable[str], mixed: Mapping[str, Path] = MappingProxyType({})
) -> dict[str, int | None]:
    """Bytes of the weights of a model's variants, packed if quantized; None where the model or the variant is unknown.

    Args:
        model_folder: the model as it was copied or fetched.
        variants: their names.
        mixed: the checkpoints of mixed variants, by name: what is not here is unknown.

    Raises:
        ModelError, SealError: a file of the model that says so is not what it was when the model was copied.
    """
    if not model_folder.exists():
        return dict.fromkeys(variants)
    verify_beside_weights(model_folder)
    shapes = shapes_of_weights(model_folder)
    return {variant: _bytes_of(shapes, variant, mixed.get(variant)) for variant in variants}


def _bytes_of(shapes: Shapes, variant: str, mixed: Path | None) -> int | None:
    if mixed is not None:
        return shapes.weight_bytes(read_quantization(mixed))
    try:
        return shapes.weight_bytes(None if variant == BASELINE_NAME else Quantization.from_name(variant))
    except ValueError:  # a checkpoint that somebody else made
        return None
