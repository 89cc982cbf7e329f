"""What is known of a form or a baseline once it was compared with others on the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

LARGEST, EACH_SIZE, EACH_BITS, EACH_FAMILY = "largest size", "each size", "each bit-width", "each family"
SCHEMES = (LARGEST, EACH_SIZE, EACH_BITS, EACH_FAMILY)


@dataclass(frozen=True)
class Errors:
    """Errors in adjusted accuracy of rows that were held out.

    ``mae``: mean absolute error; ``largest``: the largest one; ``coverage``: share of the rows within the 95 %
    prediction intervals that the rows left in give by themselves.
    """

    mae: float
    largest: float
    coverage: float


@dataclass(frozen=True)
class Comparison:
    """One form or baseline on the rows of one stratum.

    ``n_parameters``, ``aicc``, ``adjusted_r_squared``, ``mae``: of the fitted rows; ``held_out``: errors by scheme
    (``SCHEMES``), those that the table allows.
    """

    form: str
    title: str
    is_baseline: bool
    n_parameters: int
    aicc: float
    adjusted_r_squared: float
    mae: float
    held_out: Mapping[str, Errors]
    stratum: str = ""

    def error(self, scheme: str) -> float:
        """Mean absolute error on what a scheme holds out; not a number where the table does not allow it."""
        return self.held_out[scheme].mae if scheme in self.held_out else math.nan

    def of(self, stratum: str) -> Comparison:
        return replace(self, stratum=stratum)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Comparison:
        held_out = {scheme: Errors(**errors) for scheme, errors in content["held_out"].items()}
        return cls(**{**content, "held_out": held_out})


def ranked(compared: Iterable[Comparison]) -> list[Comparison]:
    """The best first: by the error for each size held out in turn, then by AICc."""

    def key(record: Comparison) -> tuple[float, float]:
        error = record.error(EACH_SIZE)
        return (math.inf if math.isnan(error) else error, record.aicc)

    return sorted(compared, key=key)


def of_stratum(compared: Iterable[Comparison], stratum: str) -> list[Comparison]:
    return [record for record in compared if record.stratum == stratum]


def strata_of(compared: Iterable[Comparison]) -> list[str]:
    return list(dict.fromkeys(record.stratum for record in compared))


def comparison_table(compared: Sequence[Comparison]) -> pd.DataFrame:
    """One row for each record, with columns such as ``each size mae``: to be read by people."""
    rows = []
    for record in compared:
        row = record.to_dict()
        for scheme, errors in row.pop("held_out").items():
            row |= {f"{scheme} {name}": value for name, value in errors.items()}
        rows.append(row)
    return pd.DataFrame(rows)
