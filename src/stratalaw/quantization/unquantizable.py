"""Variants that GPTQ cannot quantize: a finding about the variant, which takes the place of its checkpoint.

GPTQ is deterministic, so a Hessian that cannot be inverted stays so however often the job is tried. The jobs after it
do nothing for such a variant, and the study goes on without it. What may go well another time is never recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from stratalaw.files import appears_whole
from stratalaw.models.folder import UNQUANTIZABLE
from stratalaw.seals import Seal, put_record, read_record

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


def record_unquantizable(checkpoint: Path, error: Exception, made_from: Mapping[str, str] | None = None) -> None:
    """Write the reason in the place of a checkpoint; ``made_from``: digests of what it would have been made from."""
    with appears_whole(checkpoint) as folder:
        folder.mkdir()
        seal = Seal("unquantizable", {"variant": checkpoint.name}, made_from or {})
        put_record({"variant": checkpoint.name, "reason": str(error)}, folder / UNQUANTIZABLE, seal)


def why_unquantizable(checkpoint: Path) -> str | None:
    """Why a variant could not be quantized, or None if it was, or has not been tried yet."""
    record = checkpoint / UNQUANTIZABLE
    return (
        str(read_record(record, "unquantizable", {"variant": checkpoint.name})["reason"]) if record.exists() else None
    )
