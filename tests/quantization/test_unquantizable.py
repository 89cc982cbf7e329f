"""What cannot be quantized is told from what may go well another time."""

import errno
import os

import pytest
import torch

from stratalaw.quantization.gptq import audit_of_module
from stratalaw.quantization.unquantizable import is_unquantizable, record_unquantizable, why_unquantizable

LOGGED = {"layer": 0, "module": "down", "loss": "999999999", "samples": 1, "damp": 1}


@pytest.mark.parametrize(
    "fail",
    [lambda: audit_of_module(LOGGED, {}, {}), lambda: torch.linalg.cholesky(torch.zeros(3, 3))],
    ids=["hessian", "cholesky"],
)
def test_a_hessian_that_cannot_be_inverted_is_recorded_with_the_reason(fail, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        fail()
    assert is_unquantizable(raised.value)
    checkpoint = tmp_path / "q1" / "w2-g16-c2-s0"
    record_unquantizable(checkpoint, raised.value)
    assert why_unquantizable(checkpoint) == str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results"),
        ValueError("q1/model.safetensors: changed since it was copied; delete q1 and run again"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
    ids=["memory", "disk", "corrupt", "cuda"],
)
def test_what_may_go_well_another_time_is_not(error, tmp_path):
    assert not is_unquantizable(error)
    assert why_unquantizable(tmp_path) is None
