"""The law of published numbers: what it expects of a model, of any setting, with intervals that hold for new models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.files import write_text
from stratalaw.published.library import LibraryError, kept_shares
from stratalaw.published.terms import RANDOM, ROW, SETTING, TERMS, Levels, covariates, design, keys_of
from stratalaw.study.variants import BASELINE_BITS

if TYPE_CHECKING:  # scipy's solvers take a second to load
    from stratalaw.published.mixed import Fit

Array = NDArray[np.float64]

FORMAT = 1
FILE = "laws.json"
FEWEST_BITS = 2.9  # at 2 bits kept shares are near 0 or a method's own: another phase, which no law here spans
DRAWS = 2000
FREEDOM = 6.0  # of Student's t for what no row tells: as many sources and families are few, some lie far out
LEVEL = 0.95
DIGITS = 5
# Their effects are uncertain together: their covariances are kept. Those of other terms are taken as independent of
# them, which widens intervals a little, since a model's own effect and the mean of all are known to lie opposite.
TOGETHER = (
    *(name for name, term in TERMS.items() if term.prior is not None),
    *("method", "method at 3 bits", "method, whole rows", "method, by size", "benchmark", "benchmark at 3 bits"),
)


@dataclass(frozen=True)
class Law:
    """Effects on ln D, as ``terms.TERMS`` describes them.

    ``mean``, ``deviation``: of every effect; ``together``: places of those whose ``covariance`` is known;
    ``variances``: by random term, and of ``setting`` and ``row``; ``counts``: what it was fitted to.
    """

    levels: Levels
    mean: Array
    deviation: Array
    together: NDArray[np.intp]
    covariance: Array
    variances: Mapping[str, float]
    counts: Mapping[str, int]

    @classmethod
    def of(cls, fit: Fit, rows: pd.DataFrame, terms: Sequence[str] = tuple(TERMS)) -> Law:
        """The law of a fit to rows, with the covariances of the effects of some terms."""
        together = np.concatenate([np.arange(*fit.places(name).indices(len(fit.mean))) for name in terms])
        return cls(
            levels=fit.levels,
            mean=fit.mean,
            deviation=np.sqrt(np.diag(fit.covariance)),
            together=together,
            covariance=fit.covariance[np.ix_(together, together)],
            variances=fit.variances,
            counts={
                "rows": len(rows),
                "models": rows.model.nunique(),
                "families": rows.family.nunique(),
                "sources": rows.source_id.nunique(),
            },
        )

    @cached_property
    def _root(self) -> Array:
        return np.asarray(np.linalg.cholesky(self.covariance + 1e-9 * np.eye(len(self.covariance))), dtype=float)

    def log_damage(self, rows: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> Array:
        """Draws of ln D of rows with ``covariates``, shape (rows, draws).

        What is unknown is drawn too: the effects of a family, model or source without rows, and what settings and rows
        have of their own.
        """
        random = np.random.default_rng(seed)
        noise = self.deviation[:, None] * random.standard_normal((len(self.mean), draws))
        noise[self.together] = self._root @ random.standard_normal((len(self.together), draws))
        found: Array = design(rows, self.levels) @ (self.mean[:, None] + noise)
        for name in RANDOM:
            term = TERMS[name]
            keys, codes = np.unique(keys_of(rows, term.by), return_inverse=True)
            is_new = ~np.isin(keys, self.levels[name])
            if is_new.any():
                value = rows[term.covariate].to_numpy(float) if term.covariate else np.ones(len(rows))
                effect = random.standard_t(FREEDOM, (len(keys), draws)) * np.sqrt(self.variances[name])
                found += value[:, None] * (effect * is_new[:, None])[codes]
        codes, settings = pd.factorize(rows[SETTING])
        found += (random.standard_t(FREEDOM, (len(settings), draws)) * np.sqrt(self.variances[SETTING]))[codes]
        found += random.standard_t(FREEDOM, found.shape) * np.sqrt(self.variances[ROW])
        return found

    def write(self, path: Path) -> None:
        """Write everything as JSON, one term per line."""
        effects, before = {}, 0
        for name in TERMS:
            size = len(self.levels[name])
            part = slice(before, before + size)
            before += size
            effects[name] = {
                level: [round(float(self.mean[part][i]), DIGITS), round(float(self.deviation[part][i]), DIGITS)]
                for i, level in enumerate(self.levels[name])
            }
        lower = [[round(float(x), DIGITS) for x in self.covariance[i, : i + 1]] for i in range(len(self.covariance))]
        content = {
            "format": FORMAT,
            "counts": dict(self.counts),
            "variances": {name: float(f"{value:.6g}") for name, value in self.variances.items()},
            "effects": effects,
            "together": [int(place) for place in self.together],
            "covariance": lower,
        }
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        write_text("{\n" + ",\n".join(lines) + "\n}\n", path)

    @classmethod
    def read(cls, text: str, name: str = FILE) -> Law:
        """A law as it was written; raises LibraryError where it is none, or of another format."""
        try:
            content: dict[str, Any] = json.loads(text)
            if "laws" in content:
                raise LibraryError(f"{name}: the laws of a study, which `stratalaw plan STUDY.yaml` reads")
            if content["format"] != FORMAT or list(content["effects"]) != list(TERMS):
                raise LibraryError(f"{name}: a law of another version; fit it again")
            values = [pair for term in content["effects"].values() for pair in term.values()]
            size = len(content["together"])
            covariance = np.zeros((size, size))
            for place, line in enumerate(content["covariance"]):
                covariance[place, : place + 1] = covariance[: place + 1, place] = line
            return cls(
                levels={name: list(term) for name, term in content["effects"].items()},
                mean=np.array([pair[0] for pair in values]),
                deviation=np.array([pair[1] for pair in values]),
                together=np.array(content["together"]),
                covariance=covariance,
                variances=content["variances"],
                counts=content["counts"],
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, LibraryError):
                raise
            raise LibraryError(f"{name}: not a law of published numbers: {error!r}") from None


def law_rows(library: pd.DataFrame) -> pd.DataFrame:
    """The rows of a library that the law is fitted to, with covariates: kept shares at 3 to 8 bits."""
    rows = kept_shares(library)
    return covariates(rows[rows.bits.between(FEWEST_BITS, BASELINE_BITS - 1)].reset_index(drop=True))


def fit_law(rows: pd.DataFrame, start: Law | None = None) -> Law:
    """The law fitted to rows (see ``law_rows``); it starts from the variances of another one if given."""
    from stratalaw.published.mixed import fit_effects

    return Law.of(fit_effects(rows, start.variances if start else None), rows, TOGETHER)


def shipped_law() -> Law:
    """The law of the package's own library."""
    return Law.read(files(__package__).joinpath(FILE).read_text())
