"""What the weights of a variant take, from the shapes of its model."""

from __future__ import annotations

from pathlib import Path

from stratalaw.models.shapes import shapes_of_weights
from stratalaw.study.variants import BASELINE_NAME, Quantization


def weight_bytes(model_folder: Path, variant: str) -> int | None:
    """Bytes of a variant's weights, packed if it is quantized; None where the model or the variant is not known."""
    try:
        quantization = None if variant == BASELINE_NAME else Quantization.from_name(variant)
        return shapes_of_weights(model_folder).weight_bytes(quantization)
    except (OSError, KeyError, ValueError):  # no folder, another kind of model, another kind of name
        return None
