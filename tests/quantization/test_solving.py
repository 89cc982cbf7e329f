"""The solver gives what gptqmodel's gives, and its kernels (run by Triton's interpreter, see conftest.py) the same."""

from io import BytesIO

import pytest
import torch
from torch import nn

from stratalaw.quantization import solving_kernels
from stratalaw.quantization.gptqmodel_patches import inverse_factor, quantize_matrix, write_without_copy
from stratalaw.quantization.solving import Levels, solve

# Each number of bits and each kind of group, alone, in groups that straddle blocks, and where the last one is short.
KINDS = [
    *(Levels(bits, group_size, True) for bits, group_size in [(2, 16), (3, 32), (4, 64), (8, 128), (4, -1)]),
    *(Levels(bits, group_size, False) for bits, group_size in [(2, -1), (3, 128), (4, 256), (8, 16)]),
]


def accumulated(levels: Levels, activation_order: bool, n_devices: int = 1, rows: int = 40, columns: int = 300):
    """gptqmodel's task of a random matrix that has seen correlated inputs, some of them always zero; each of several
    devices has seen a share of them."""
    from gptqmodel import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ

    torch.manual_seed(levels.bits)
    layer = nn.Linear(columns, rows, bias=False)
    layer.weight.data[:2] = torch.tensor([[0.0], [0.01]])  # rows without a range, and on one side of zero
    config = QuantizeConfig(
        bits=levels.bits,
        group_size=levels.group_size,
        sym=levels.symmetric,
        desc_act=activation_order,
        act_group_aware=False,
        damp_percent=0.01,
        damp_auto_increment=0.0,
        fallback=None,
        offload_to_disk=False,
    )
    task = GPTQ(layer, config)
    task.quantizer.configure(perchannel=True)
    inputs = torch.randn(2, 200, columns) @ torch.randn(columns, columns) * torch.rand(columns)
    inputs[..., [5, 130, columns - 1]] = 0
    shares = inputs.flatten(0, 1).chunk(n_devices)
    accumulate = task.process_batch
    for number, share in enumerate(shares):
        device = torch.device("cpu", number) if number else torch.device("cpu")
        task.process_batch = lambda batch, device=device: (*accumulate(batch)[:2], device)
        task.add_batch(share[None], torch.empty(0))
    return task


@pytest.mark.parametrize("activation_order", [False, True], ids=["natural order", "activation order"])
@pytest.mark.parametrize("levels", KINDS, ids=str)
def test_matrices_are_quantized_as_by_gptqmodel_bit_for_bit(levels, activation_order):
    theirs = accumulated(levels, activation_order).quantize()
    ours = quantize_matrix(accumulated(levels, activation_order))
    for expected, found in zip(theirs[:4], ours[:4], strict=True):  # weights, scales, zero points, groups
        assert found.dtype == expected.dtype and torch.equal(found, expected)
    assert ours[5] == pytest.approx(theirs[5], rel=1e-5)  # the loss, summed in another order
    assert ours[6:] == theirs[6:]


def test_hessians_of_the_shares_of_several_devices_sum_to_that_of_all_samples():
    one, three = (accumulated(KINDS[2], False, n_devices) for n_devices in (1, 3))
    assert len(three._device_hessian_partials) == 3
    for task in (one, three):
        task.finalize_hessian()
    assert torch.allclose(three.H, one.H, rtol=1e-5, atol=1e-6 * one.H.abs().max())
    assert three.nsamples == one.nsamples == 400


@pytest.mark.parametrize("levels", [KINDS[0], KINDS[4], *KINDS[6:8]], ids=str)
def test_kernels_give_what_torch_gives_bit_for_bit(levels, monkeypatch):
    torch.manual_seed(0)
    rows, columns = 17, 140  # more than the rows of a program and the columns of a block
    weights = torch.randn(rows, columns)
    weights[:2] = torch.tensor([[0.0], [0.01]])
    root = torch.randn(columns, columns)
    factor = torch.linalg.cholesky(root @ root.T + 0.1 * torch.eye(columns), upper=True)
    dead = torch.arange(columns) == 5
    in_torch = solve(weights.clone(), factor, levels, dead)
    monkeypatch.setattr("stratalaw.quantization.solving.find_levels_in_torch", solving_kernels.find_levels)
    monkeypatch.setattr("stratalaw.quantization.solving.round_block_in_torch", solving_kernels.round_block)
    in_kernels = solve(weights.clone(), factor, levels, dead)
    for name in ("weights", "scales", "zeros"):
        assert torch.equal(getattr(in_kernels, name), getattr(in_torch, name)), name
    assert in_kernels.error == pytest.approx(in_torch.error.item(), rel=1e-5)


def test_a_factor_belongs_to_the_inverse_of_the_damped_hessian():
    torch.manual_seed(0)
    inputs = torch.randn(500, 200)
    hessian = inputs.T @ inputs / 500
    factor = inverse_factor(hessian, 0.01)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(200)
    assert torch.equal(factor, factor.triu())
    assert torch.allclose(factor @ damped @ factor.T, torch.eye(200), atol=1e-4)
    assert inverse_factor(torch.diag(torch.tensor([1.0, -1.0])), 0.01) is None


def test_tensors_are_written_as_by_gptqmodel():
    from gptqmodel.utils import model as writer

    tensors = [
        torch.randn(3, 4).T,
        torch.randn(5).bfloat16(),
        torch.arange(6, dtype=torch.int32),
        torch.tensor(1.5),
        torch.empty(0),
    ]
    for tensor in tensors:
        theirs, ours = BytesIO(), BytesIO()
        writer._write_tensor_bytes(theirs, tensor, tensor.dtype)
        with write_without_copy():
            writer._write_tensor_bytes(ours, tensor, tensor.dtype)
        assert ours.getvalue() == theirs.getvalue()


def test_a_hessian_that_is_no_number_is_an_error():
    task = accumulated(KINDS[0], activation_order=False)
    task.add_batch(torch.full((1, 1, 300), float("nan")), torch.empty(0))
    with pytest.raises(RuntimeError, match="Hessian cannot be inverted"):
        quantize_matrix(task)
