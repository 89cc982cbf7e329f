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
# Of a variant of a grid that is calibrated on the study's corpus: laws, figures and plans speak of these alone.
NAME_PATTERN = re.compile(r"w(\d+)-g(-1|\d+)-c(\d+)-s(\d+)")
CALIBRATED_ON = ", calibrated on "  # before the name of a mixture, at the end of the method of its variants
MIXED = "GPTQ, mixed"  # the method of a variant whose matrices have bits of their own
MIXTURE_PATTERN = re.compile(r"[a-z][a-z0-9_]*")
_OF_MIXTURE = rf"(?:-({MIXTURE_PATTERN.pattern}))?"
UNIFORM_PATTERN = re.compile(NAME_PATTERN.pattern + _OF_MIXTURE)  # the same bits for all matrices
MIXED_PATTERN = re.compile(r"mixed-[0-9a-f]{12}-c(\d+)-s(\d+)" + _OF_MIXTURE)
DRAW_PATTERN = re.compile(r"s(\d+)" + _OF_MIXTURE)


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
    ``exceptions``: the matrices, by name and in order, that have other bits or another group size than the rest;
    ``mixture``: of corpora, from which the samples are drawn; empty where they are from the study's corpus.
    """

    bits: int
    group_size: int
    calibration_size: int
    calibration_seed: int
    exceptions: tuple[tuple[str, Precision], ...] = ()
    mixture: str = ""

    @property
    def draw(self) -> str:
        """The name of the draw of calibration samples, of which the variant has the first."""
        return draw_name(self.calibration_seed, self.mixture)

    @property
    def is_of_laws(self) -> bool:
        """Whether laws speak of it: they know neither mixed bits nor mixtures of corpora."""
        return not self.exceptions and not self.mixture

    @property
    def name(self) -> str:
        drawn = f"c{self.calibration_size}-{self.draw}"
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
        match = UNIFORM_PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not the name of a quantized variant such as w3-g128-c32-s0")
        bits, group_size, calibration_size, calibration_seed = map(int, match.groups()[:4])
        return cls(bits, group_size, calibration_size, calibration_seed, mixture=match[5] or "")

    @classmethod
    def from_allocation(
        cls, allocation: Mapping[str, Any], calibration_size: int, calibration_seed: int, mixture: str = ""
    ) -> Quantization:
        """The quantization that an allocation means; to name a matrix that is as the rest makes no difference."""
        rest = Precision(allocation["bits"], allocation["group_size"])
        matrices = {name: Precision(**precision) for name, precision in allocation["matrices"].items()}
        exceptions = tuple(sorted((name, precision) for name, precision in matrices.items() if precision != rest))
        return cls(rest.bits, rest.group_size, calibration_size, calibration_seed, exceptions, mixture)


def is_quantized_here(variant: str) -> bool:
    """Whether a variant is quantized by a study, by its name: not the original, and not one that existed."""
    return any(pattern.fullmatch(variant) for pattern in (UNIFORM_PATTERN, MIXED_PATTERN))


def is_mixed(variant: str) -> bool:
    """Whether the matrices of a variant have bits of their own, by its name."""
    return MIXED_PATTERN.fullmatch(variant) is not None


def calibration_of(variant: str) -> tuple[int, int, str]:
    """The number of calibration samples, their seed and their mixture, by the name of a variant that is quantized
    here."""
    match = MIXED_PATTERN.fullmatch(variant)
    if match is not None:
        return int(match[1]), int(match[2]), match[3] or ""
    quantization = Quantization.from_name(variant)
    return quantization.calibration_size, quantization.calibration_seed, quantization.mixture


def draw_of(variant: str) -> str:
    """The name of the draw of calibration samples, by the name of a variant that is quantized here."""
    _, seed, mixture = calibration_of(variant)
    return draw_name(seed, mixture)


def draw_name(seed: int, mixture: str) -> str:
    """The name of a draw of calibration samples; ``mixture`` is empty where they are from the study's corpus."""
    return f"s{seed}-{mixture}" if mixture else f"s{seed}"


def seed_and_mixture(draw: str) -> tuple[int, str]:
    """The inverse of ``draw_name``; raises ValueError for any other text."""
    match = DRAW_PATTERN.fullmatch(draw)
    if match is None:
        raise ValueError(f"{draw!r} is not the name of a draw such as s0")
    return int(match[1]), match[2] or ""
