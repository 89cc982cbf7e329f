"""Which models of a study are rehearsed before it runs, and what came of it.

Of an architecture that no test takes through the whole chain, a tiny random model of the same configuration is
quantized and scored first, in a process of its own, on the CPU: where that fails, the model would fail later, on a GPU.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stratalaw.files import write_json
from stratalaw.layout import Results
from stratalaw.models.folder import CONFIG
from stratalaw.models.shrinking import structure_of
from stratalaw.models.sources import TESTED
from stratalaw.preparation.rehearsal import ASKED, PROGRAM, SAMPLES
from stratalaw.study import Study
from stratalaw.study.variants import Quantization
from stratalaw.text import one_line

LOG = logging.getLogger(__name__)
MAX_SECONDS = 900
PACKAGES = ("stratalaw", "gptqmodel", "transformers", "torch")


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found.

    Attributes:
        model: name of the model.
        model_type: its architecture.
        variants: how the tiny model was quantized.
        problem: why the model cannot be used, or None.
    """

    model: str
    model_type: str
    variants: tuple[str, ...]
    problem: str | None

    @property
    def line(self) -> str:
        """What is said of a model that can be used."""
        return (
            f"{self.model}: {self.model_type} is none of the tested architectures; rehearsed with a tiny random model "
            f"({', '.join(self.variants)})"
        )


def rehearsals(study: Study, configurations: Mapping[str, Mapping[str, Any]], results: Results) -> list[Rehearsal]:
    """Rehearse every model of a study that is to be quantized and whose architecture no test covers.

    What passed is kept under ``results``: with the same packages, neither a model of the same structure nor another run
    is rehearsed again.

    Args:
        study: its variants and its options of GPTQ are those that are rehearsed.
        configurations: those of its models, by their names; a model without one is not rehearsed.
        results: where passed rehearsals are kept.
    """
    found = []
    for model in study.models:
        config = configurations.get(model.name, {})
        variants = variants_to_rehearse(study.quantizations_of(model))
        model_type = str(config.get("model_type"))
        if not variants or not config or model_type in TESTED:
            continue
        options = study.gptq.model_dump()
        kept = results.rehearsal(_key(config, variants, options))
        problem = None
        if not kept.exists():
            LOG.warning(
                "%s: %s is none of the tested architectures; it is rehearsed with a tiny random model first, which "
                "takes about a minute",
                *(model.name, model_type),
            )
            problem = _rehearse(config, variants, options, kept)
        if problem is not None:
            problem = f"models: {model.name}: {model_type} is none of the tested architectures, and {problem}"
        found.append(Rehearsal(model.name, model_type, variants, problem))
    return found


def variants_to_rehearse(quantizations: list[Quantization]) -> tuple[str, ...]:
    """The names of the variants of the tiny model: one for each number of bits, with the smallest groups.

    Rows of the tiny model are as short as those groups; more of them fit in it than of any larger ones.
    """
    sizes: dict[int, list[int]] = {}
    for precision in (precision for quantization in quantizations for precision in quantization.precisions):
        sizes.setdefault(precision.bits, []).append(precision.group_size)
    groups = {bits: min(found, key=lambda size: (size < 0, size)) for bits, found in sorted(sizes.items())}
    return tuple(Quantization(bits, size, SAMPLES, 0).name for bits, size in groups.items())


def _key(config: Mapping[str, Any], variants: tuple[str, ...], options: Mapping[str, Any]) -> str:
    """A name for all that a rehearsal depends on."""
    versions = {name: version(name) for name in PACKAGES}
    content = json.dumps([structure_of(config), variants, options, versions], sort_keys=True)
    return f"{one_line(config['model_type'], 50).replace('/', '-')}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _rehearse(
    config: Mapping[str, Any], variants: tuple[str, ...], options: Mapping[str, Any], kept: Path
) -> str | None:
    """Why a rehearsal is none that passed; what passed is kept."""
    with TemporaryDirectory() as scratch:
        write_json(config, Path(scratch) / CONFIG)
        write_json({"variants": variants, "options": options}, Path(scratch) / ASKED)
        started = time.monotonic()
        found = _run(Path(scratch))
        seconds = round(time.monotonic() - started, 1)
    if "failed" in found:
        return f"a rehearsal with a tiny random model failed while {found['failed']}"
    if "impossible" in found:
        return f"it cannot be rehearsed: {found['impossible']}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in PACKAGES}
    write_json({"variants": variants, **found, "seconds": seconds, "versions": versions}, kept)
    return None


def _run(folder: Path) -> dict[str, Any]:
    """What the process of a rehearsal printed, or that it ended without a result."""
    # Without the GPUs of this machine, which other jobs have, and without threads that would wait for each other.
    surroundings = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", PROGRAM, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings,
        start_new_session=True,  # so that the process that quantizes ends with it
    ) as process:
        try:
            printed, complaints = process.communicate(timeout=MAX_SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return {"impossible": f"it took more than {MAX_SECONDS} s"}
    try:
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (ValueError, IndexError):
        ending = complaints.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        return {"impossible": f"its process ended without a result ({one_line(ending[0])})"}
    return found
