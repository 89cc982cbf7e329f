"""How far rounding errors alone move a variant: quantized again with Hessians that differ in their last bits.

``python benchmarks/rounding.py OUT.csv q1 q3 q4 q5 q6 q8``: 3 and 4 bits, groups of 128, the same 128
calibration samples throughout; entries of a Hessian are multiplied by 1 + share * a normal random number. A share of
1e-7 is the rounding of float32, as another order of summation has it; 4e-5 is how far bf16 tensor cores are from
float32 products. Prints the standard deviation of the adjusted accuracy, in points, pooled over models.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

os.environ["HF_HUB_OFFLINE"] = "1"

import pandas as pd
import torch
from gptqmodel.quantization.gptq import GPTQ
from ladder_runs import LadderModel

from stratalaw.quantization.gptq import AUDIT
from stratalaw.study import read_study

BITS, GROUP_SIZE, SAMPLES = (3, 4), 128, 128
SHARES, REPEATS = (0.0, 1e-7, 4e-5), 6


@contextmanager
def rounded_otherwise(share: float, seed: int) -> Iterator[None]:
    """Within this context Hessians have random relative errors of this size."""
    generator, exact = torch.Generator().manual_seed(seed), GPTQ.compute_hessian_xtx

    def compute_hessian_xtx(task, matrix: torch.Tensor) -> torch.Tensor:
        hessian = exact(task, matrix)
        errors = torch.randn(hessian.shape, generator=generator).triu()
        return hessian * (1 + share * (errors + errors.triu(1).T))

    with patch.object(GPTQ, "compute_hessian_xtx", compute_hessian_xtx):
        yield


def main(out: str, names: list[str]) -> None:
    study, rows = read_study(Path("config/ladder.yaml")), []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            model = LadderModel(study, name, Path(folder))
            model.record_requests()
            samples = model.draw_calibration(SAMPLES)
            settings = [(b, share, r) for b in BITS for share in SHARES for r in range(REPEATS if share else 1)]
            for bits, share, repeat in settings:
                with rounded_otherwise(share, repeat):
                    checkpoint = model.quantize(bits, GROUP_SIZE, samples)
                model.answer(checkpoint)
                model.score()
                loss = sum(module["loss"] for module in json.loads((checkpoint / AUDIT).read_text())["modules"])
                about = {"model": name, "bits": bits, "share": share, "repeat": repeat, "loss": loss}
                rows.append(about | model.adjusted_accuracies())
                pd.DataFrame(rows).to_csv(out, index=False)
    table = pd.DataFrame(rows)
    strata = list(study.evaluation.strata)
    variances = table[table.share > 0].groupby(["bits", "share", "model"])[strata].var()
    print((100 * variances.groupby(["bits", "share"]).mean() ** 0.5).round(2).to_markdown())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
