"""Variants of a model: the unquantized baseline and every way of quantizing it, each with a name that says it all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

BASELINE_NAME = "bf16"
BASELINE_BITS = 16
EXISTING = ", existing"  # at the end of the method of a variant that was not quantized here
NAME_PATTERN = re.compile(r"w(\d+)-g(-1|\d+)-c(\d+)-s(\d+)")
MIXED = "GPTQ, mixed"  # the method of a variant whose matrices have bits of their own
MIXED_PATTERN = re.compile(r"mixed-[0-9a-f]{12}-c(\d+)-s(\d+)")


@dataclass(frozen=True, order=True)
class Precision:
    """How a matrix is quantized: nominal ``bits`` of a weight, and ``group_size`` as in ``Quantization``."""

    bits: int
    group_size: int


@dataclass(frozen=True, order=True)
class Quantization:
    """One way of quantizing a model with GPTQ.

    ``bits``: nominal bits of a weight; ``group_size``: input features that share a scale and a zero point, -1 for a
    whole row; ``calibration_size``: number of calibration samples; ``calibration_seed``: which draw of them;
    ``exceptions``: the matrices, by name and in order, that have other bits or another group size than the rest.
    """

    bits: int
    group_size: int
    calibration_size: int
    calibration_seed: int
    exceptions: tuple[tuple[str, Precision], ...] = ()

    @property
    def name(self) -> str:
        drawn = f"c{self.calibration_size}-s{self.calibration_seed}"
        if self.exceptions:
            digest = hashlib.sha256(json.dumps(self.allocation, sort_keys=True).encode()).hexdigest()
            return f"mixed-{digest[:12]}-{drawn}"
        return f"w{self.bits}-g{self.group_size}-{drawn}"

    @property
    def allocation(self) -> dict[str, Any]:
        """What the name of a mixed variant does not say, as plain values: bits and group size of every matrix."""
        matrices = {name: vars(precision) for name, precision in self.exceptions}
        return {"bits": self.bits, "group_size": self.group_size, "matrices": matrices}

    def of(self, matrix: str) -> Precision:
        """How a matrix is quantized; ``matrix``: its name."""
        return self._exceptions.get(matrix, self._rest)

    @property
    def precisions(self) -> list[Precision]:
        """The ways in which matrices are quantized, each once: first that of the rest."""
        return list(dict.fromkeys([self._rest, *self._exceptions.values()]))

    @cached_property
    def _rest(self) -> Precision:
        return Precision(self.bits, self.group_size)

    @cached_property
    def _exceptions(self) -> dict[str, Precision]:
        return dict(self.exceptions)

    @classmethod
    def from_name(cls, name: str) -> Quantization:
        """The quantization that a variant's name means; raises ValueError for any other text, and for the name of a
        mixed variant, which does not say all."""
        match = NAME_PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not the name of a quantized variant such as w3-g128-c32-s0")
        bits, group_size, calibration_size, calibration_seed = map(int, match.groups())
        return cls(bits, group_size, calibration_size, calibration_seed)

    @classmethod
    def from_allocation(
        cls, allocation: Mapping[str, Any], calibration_size: int, calibration_seed: int
    ) -> Quantization:
        """The quantization that an allocation means; to name a matrix that is as the rest makes no difference."""
        rest = Precision(allocation["bits"], allocation["group_size"])
        matrices = {name: Precision(**precision) for name, precision in allocation["matrices"].items()}
        exceptions = tuple(sorted((name, precision) for name, precision in matrices.items() if precision != rest))
        return cls(rest.bits, rest.group_size, calibration_size, calibration_seed, exceptions)


def is_quantized_here(variant: str) -> bool:
    """Whether a variant is quantized by a study, by its name: not the original, and not one that existed."""
    return any(pattern.fullmatch(variant) for pattern in (NAME_PATTERN, MIXED_PATTERN))


def is_mixed(variant: str) -> bool:
    """Whether the matrices of a variant have bits of their own, by its name."""
    return MIXED_PATTERN.fullmatch(variant) is not None


def calibration_of(variant: str) -> tuple[int, int]:
    """The number of calibration samples and the draw of them, by the name of a variant that is quantized here."""
    match = MIXED_PATTERN.fullmatch(variant)
    if match is not None:
        return int(match[1]), int(match[2])
    quantization = Quantization.from_name(variant)
    return quantization.calibration_size, quantization.calibration_seed
