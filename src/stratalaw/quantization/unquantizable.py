"""Variants that GPTQ cannot quantize: a finding about the variant, which takes the place of its checkpoint.

GPTQ is deterministic, so a Hessian that cannot be inverted stays so however often the job is tried. The jobs after it
do nothing for such a variant, and the study goes on without it. What may go well another time is never recorded.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from stratalaw.files import appears_whole
from stratalaw.models.folder import UNQUANTIZABLE

# What gptqmodel and torch say of a Hessian that has no inverse.
UNINVERTIBLE = (
    r"Hessian cannot be inverted",
    r"not positive[- ]definite",
    r"Hessian .*(NaN|not finite)",
    r"(NaN|non-finite|inf) .*Hessian",
    r"Failed due to `NaN` loss",
)


def is_unquantizable(error: Exception) -> bool:
    """Whether an error of a quantization says that the variant cannot be quantized, however often it is tried."""
    return re.search("|".join(UNINVERTIBLE), str(error), re.IGNORECASE) is not None


def record_unquantizable(checkpoint: Path, error: Exception) -> None:
    """Write the reason in the place of a checkpoint."""
    with appears_whole(checkpoint) as folder:
        folder.mkdir()
        reason = {"variant": checkpoint.name, "reason": str(error)}
        (folder / UNQUANTIZABLE).write_text(json.dumps(reason, indent=1) + "\n")


def why_unquantizable(checkpoint: Path) -> str | None:
    """Why a variant could not be quantized, or None if it was, or has not been tried yet."""
    record = checkpoint / UNQUANTIZABLE
    return str(json.loads(record.read_text())["reason"]) if record.exists() else None
