"""Variants of a model: the unquantized baseline and every way of quantizing it, each with a name that says it all."""

from __future__ import annotations

import re
from dataclasses import dataclass

BASELINE_NAME = "bf16"
BASELINE_BITS = 16
EXISTING = ", existing"  # at the end of the method of a variant that was not quantized here
NAME_PATTERN = re.compile(r"w(\d+)-g(-1|\d+)-c(\d+)-s(\d+)")


@dataclass(frozen=True, order=True)
class Quantization:
    """One way of quantizing a model with GPTQ.

    ``bits``: nominal bits of a weight; ``group_size``: input features that share a scale and a zero point, -1 for a
    whole row; ``calibration_size``: number of calibration samples; ``calibration_seed``: which draw of them.
    """

    bits: int
    group_size: int
    calibration_size: int
    calibration_seed: int

    @property
    def name(self) -> str:
        return f"w{self.bits}-g{self.group_size}-c{self.calibration_size}-s{self.calibration_seed}"

    @classmethod
    def from_name(cls, name: str) -> Quantization:
        """The quantization that a variant's name means; raises ValueError for any other text."""
        match = NAME_PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not the name of a quantized variant such as w3-g128-c32-s0")
        return cls(*map(int, match.groups()))
