"""Seconds of the parts of a job, from measured rates: ``rates.csv``.

It is made by ``rates.py`` (CPU), ``many_variants.py``, ``variant_gpu.py``, ``quantizing_gpu.py`` and
``scoring_gpu.py`` (GPU) in ``benchmarks/``. A job of this pipeline finds a process that stays from one job to the next,
as in ``profiles/workstation`` and in packs of ``profiles/slurm``; the plain way starts one to quantize and one to
evaluate each variant.

Each part is a sum of interpretable terms (a fixed start, a cost per layer, parameter and token); their
coefficients are nonnegative and fitted to the measured points by least squares on relative errors, which interpolates
between the points and extrapolates beyond them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.cost.memory import fit_beside_a_layer
from stratalaw.cost.workload import Workload
from stratalaw.errors import StratalawError
from stratalaw.models.shapes import Shapes

OURS, REFERENCE = "ours", "reference"  # this pipeline, and gptqmodel with lm-eval's hf model
CPU = "cpu"
# The terms of each part; the names are columns of rates.csv.
TERMS: Mapping[str, Callable[[Mapping[str, Any] | pd.DataFrame], list[Any]]] = {
    # A job beside its other parts; of the plain way, a process until its libraries are loaded and the device is ready.
    "start": lambda m: [1],
    # Kernels and Python for each layer; solving and packing; forward passes and Hessians; what forward passes compute
    # anew for each group of matrices.
    "quantize": lambda m: [
        *(1, m["n_layers"], m["n_quantized"]),
        *(m["n_quantized"] * m["calibration_tokens"], m["n_quantized"] * m["anew_tokens"]),
    ],
    # Dense weights on the device, from a checkpoint.
    "load": lambda m: [1, m["n_params"]],
    # Element-wise kernels; matrix products.
    "log_likelihoods": lambda m: [1, m["n_layers"] * m["hidden_size"] * m["tokens"], m["n_quantized"] * m["tokens"]],
    # Kernels of a step; reading the weights in each step; the prompts.
    "generate": lambda m: [m["n_layers"] * m["steps"], m["n_params"] * m["steps"], m["n_quantized"] * m["tokens"]],
    # lm-eval's work on requests and metrics, which the plain way does in the process that has the device: their text.
    "harness": lambda m: [m["requests"], m["tokens"]],
    # On CPUs whatever the device: lm-eval's requests, calibration samples, lm-eval's metrics, laws and figures.
    "requests": lambda m: [1, m["requests"]],
    "calibration": lambda m: [1, m["calibration_tokens"]],
    "scores": lambda m: [1, m["requests"]],
    "analysis": lambda m: [1],
}
ON_CPU = ("requests", "calibration", "scores", "analysis")


class RatesError(StratalawError):
    """A device without rates; the message is one line."""


@dataclass(frozen=True)
class Rates:
    """Seconds on a device.

    ``coefficients``: those of each part's terms, by toolchain (``ours`` or ``reference``) and part.
    """

    device: str
    coefficients: Mapping[tuple[str, str], NDArray[np.float64]]

    def seconds(self, part: str, toolchain: str = OURS, **amounts: float) -> float:
        """Seconds of a part; ``amounts``: the quantities that its terms name."""
        return float(np.dot(self.coefficients[toolchain, part], TERMS[part](amounts)))

    def checkpoint(self, shapes: Shapes, calibration_tokens: float, toolchain: str = OURS) -> float:
        """Seconds of the job that makes a checkpoint."""
        return self.seconds("start", toolchain) + self.quantization(shapes, calibration_tokens, toolchain)

    def quantization(self, shapes: Shapes, calibration_tokens: float, toolchain: str = OURS) -> float:
        """Seconds to load, quantize and save a model: what a checkpoint's audit calls ``seconds``.

        Where activations would not fit a GPU of 80 GB, all tokens are taken to pass anew.
        """
        keeps = toolchain == OURS and self.device != CPU and fit_beside_a_layer(shapes, calibration_tokens)
        tokens = {"calibration_tokens": calibration_tokens, "anew_tokens": 0 if keeps else calibration_tokens}
        return self.seconds("quantize", toolchain, **amounts_of(shapes), **tokens)

    def answers(self, shapes: Shapes, work: Workload, toolchain: str = OURS) -> float:
        """Seconds of the job that answers what a variant is asked."""
        about = amounts_of(shapes)
        tokens, prompts, steps = (
            (work.tokens, work.prompt_tokens, work.steps)
            if toolchain == OURS
            else (work.reference_tokens, work.reference_prompt_tokens, work.reference_steps)
        )
        run = self.seconds("log_likelihoods", toolchain, **about, tokens=tokens) if tokens else 0.0
        generated = self.seconds("generate", toolchain, **about, tokens=prompts, steps=steps) if steps else 0.0
        asked = self.seconds("harness", toolchain, requests=work.requests, tokens=work.text_tokens)
        beside = self.seconds("start", toolchain) + asked
        return beside + self.seconds("load", toolchain, **about) + run + generated


def amounts_of(shapes: Shapes) -> dict[str, int]:
    """The quantities of a model that the terms name."""
    return {name: getattr(shapes, name) for name in ("n_params", "n_quantized", "n_layers", "hidden_size")}


@cache
def measured_rates() -> pd.DataFrame:
    """The table of measured points."""
    with files(__package__).joinpath("rates.csv").open() as file:
        return pd.read_csv(file)


@cache
def rates_of(device: str | None = None) -> Rates:
    """Rates of a device: the first of the table if none is given, or any whose name contains ``device``.

    Raises:
        RatesError: the table has no such device.
    """
    measured = measured_rates()
    devices = list(dict.fromkeys(measured.device))
    wanted = [name for name in devices if device is None or device.casefold() in name.casefold()]
    if not wanted:
        raise RatesError(f"no rates were measured on {device}; there are those of {', '.join(devices)}")
    return fitted(wanted[0], measured)


def fitted(device: str, measured: pd.DataFrame) -> Rates:
    """Coefficients of every part on a device."""
    coefficients: dict[tuple[str, str], NDArray[np.float64]] = {}
    for part in TERMS:
        rows = measured[(measured.device == (CPU if part in ON_CPU else device)) & (measured.part == part)]
        coefficients[OURS, part] = fit(part, rows[rows.toolchain == OURS])
        reference, ours = rows[rows.toolchain == REFERENCE], coefficients[OURS, part]
        points = len(np.unique(design(part, reference), axis=0))
        coefficients[REFERENCE, part] = (
            fit(part, reference) if points >= len(ours) else ours * ratio(part, reference, ours)
        )
    return Rates(device, coefficients)


def fit(part: str, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Nonnegative coefficients of a part's terms with the smallest relative errors; all 0 without points."""
    from scipy.optimize import nnls

    # From the last term: points that are all alike are taken to scale with it, not to be a fixed start.
    terms = design(part, rows)[:, ::-1]
    if rows.empty:
        return np.zeros(terms.shape[1])
    relative = terms / rows.seconds.to_numpy()[:, None]
    # Columns differ by many orders of magnitude.
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1
    coefficients: NDArray[np.float64] = nnls(relative / scale, np.ones(len(rows)))[0] / scale
    return coefficients[::-1]


def ratio(part: str, rows: pd.DataFrame, coefficients: NDArray[np.float64]) -> float:
    """Measured over predicted seconds of some points (geometric mean); 1 without points."""
    if rows.empty or not coefficients.any():
        return 1.0
    return float(np.exp(np.log(rows.seconds / (design(part, rows) @ coefficients)).mean()))


def design(part: str, rows: pd.DataFrame) -> NDArray[np.float64]:
    """The terms of a part at some points, (points, terms)."""
    terms = [np.broadcast_to(np.asarray(term, dtype=float), len(rows)) for term in TERMS[part](rows)]
    return np.stack(terms, axis=1)
