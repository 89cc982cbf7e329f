"""Variants that GPTQ cannot quantize: a finding about the variant, which takes the place of its checkpoint.

GPTQ is deterministic, so a Hessian that cannot be inverted stays so however often the job is tried. The jobs after it
do nothing for such a variant, and the study goes on without it. What may go well another time is never recorded.
"""

from __future__ import annotations

import json
from pathlib import Path

from stratalaw.failures import classify
from stratalaw.files import appears_whole
from stratalaw.models import UNQUANTIZABLE


def is_unquantizable(error: Exception) -> bool:
    """Whether an error of a quantization says that the variant cannot be quantized, however often it is tried."""
    failure = classify(str(error))
    return failure is not None and failure.cause.is_permanent


def record_unquantizable(checkpoint: Path, error: Exception) -> None:
    """Write the reason in the place of a checkpoint."""
    with appears_whole(checkpoint) as folder:
        folder.mkdir()
        reason = {"variant": checkpoint.name, "reason": str(error)}
        (folder / UNQUANTIZABLE).write_text(json.dumps(reason, indent=1) + "\n")


def why_unquantizable(checkpoint: Path) -> str | None:
    """Why a variant could not be quantized, or None if it was, or has not been tried yet."""
    record = checkpoint / UNQUANTIZABLE
    return json.loads(record.read_text())["reason"] if record.exists() else None
