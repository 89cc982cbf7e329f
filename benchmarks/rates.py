"""The measured points of ``stratalaw cost`` on a CPU (src/stratalaw/cost/rates.csv); variant_gpu.py makes a GPU's.

``python benchmarks/rates.py OUT.csv r1 r3 r5``: models of the ladder as config/ladder.yaml runs them, in a process with
the libraries loaded, one thread. Every row is written as soon as it is measured.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pandas as pd
import torch
from ladder_runs import LadderModel

from stratalaw.cost.rates import amounts_of
from stratalaw.cost.workload import work_of
from stratalaw.evaluation.answers import load_dense
from stratalaw.models.known_shapes import shapes_of
from stratalaw.models.shapes import Shapes
from stratalaw.study import read_study

COLUMNS = [
    *("device", "toolchain", "part", "shape", "n_params", "n_quantized", "n_layers", "hidden_size"),
    *("calibration_tokens", "anew_tokens", "tokens", "steps", "requests", "seconds", "gpu_bytes", "note"),
]


class Table:
    """Rows of rates.csv, written after each measurement."""

    def __init__(self, path: str) -> None:
        self.path, self.rows = path, []
        self.on_gpu = torch.cuda.is_available()
        self.device = torch.cuda.get_device_name() if self.on_gpu else "cpu"
        # On a CPU that others use too, the seconds of a core.
        self.clock = time.perf_counter if self.on_gpu else time.process_time

    @contextmanager
    def measure(
        self, part: str, shape: str = "", shapes: Shapes | None = None, toolchain: str = "ours", **amounts
    ) -> Iterator[None]:
        """Add the seconds that the block takes, and on a GPU its peak of memory."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = self.clock()
        yield
        if self.on_gpu:
            torch.cuda.synchronize()
            amounts["gpu_bytes"] = torch.cuda.max_memory_allocated()
        self.add(self.clock() - started, part, shape, shapes, toolchain, **amounts)

    def add(
        self,
        seconds: float,
        part: str,
        shape: str = "",
        shapes: Shapes | None = None,
        toolchain: str = "ours",
        **amounts,
    ) -> None:
        """Add a row: a part of a job of one toolchain (``ours`` or ``reference``) and what its seconds depend on."""
        about = {"device": self.device, "toolchain": toolchain, "part": part, "shape": shape}
        self.rows.append(about | (amounts_of(shapes) if shapes else {}) | amounts | {"seconds": round(seconds, 3)})
        print(self.rows[-1], flush=True)
        pd.DataFrame(self.rows, columns=COLUMNS).to_csv(self.path, index=False)


def measure_ladder(table: Table, names: list[str]) -> None:
    """Models of the ladder on one thread of a CPU."""
    study = read_study(Path("config/ladder.yaml"))
    torch.set_num_threads(1)
    with table.measure("start", note="the job's own process; libraries are in the warm worker"):
        import snakemake.script  # noqa: F401
    asked = round(work_of(study.evaluation).requests)
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            model = LadderModel(study, name, Path(scratch))
            shapes = shapes_of(model.folder)
            if name == names[0]:
                # What is loaded at the first use is there in a warm worker.
                model.quantize(4, 128, [list(range(1, 257))] * 2)
                model.record_requests()
            with table.measure("calibration", name, calibration_tokens=128 * study.calibration.tokens):
                drawn = model.draw_calibration(128)
            with table.measure("requests", name, requests=asked):
                model.record_requests()
            for samples in (8, 32, 128):
                tokens = samples * study.calibration.tokens
                with table.measure("quantize", name, shapes, calibration_tokens=tokens, anew_tokens=tokens):
                    checkpoint = model.quantize(4, 64, drawn[:samples])
            with table.measure("load", name, shapes):
                load_dense(checkpoint, "cpu")
            with table.measure("log_likelihoods", name, shapes, tokens=model.batched_tokens):
                model.answer(checkpoint)
            with table.measure("scores", name, requests=asked):
                model.score()
    from stratalaw.laws.analysis import fit_table

    with table.measure("analysis"):
        fit_table(Path("docs/studies/ladder/observations.csv"), [], [], None, 1000)


if __name__ == "__main__":
    measure_ladder(Table(sys.argv[1]), sys.argv[2:])
