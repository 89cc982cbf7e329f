"""Patches of gptqmodel: less time on GPUs for the same weights up to rounding, and records of extra damping and of
columns that it zeroed.

On CPUs gptqmodel computes as it is.

*Tensor cores*: gptqmodel casts activations X to float32 and multiplies X'X without tensor cores, which takes most of
the time at large widths. The product of two bf16 numbers is exact in float32, so only the order of summation differs.

*Solving*: gptqmodel launches about thirty small kernels for each group of columns, and without a compiled extension
about ten for each column. On CUDA devices matrices are solved with two launches and one product per block of columns
(``solving``), with the same result for the same factor. gptqmodel shares Hessians and their factors among matrices with
the same inputs; this stays so.

*Factors*: gptqmodel computes the factor of a Hessian, the inverse from it, and the factor of that. One factor and its
inverse are enough: if L L' = PHP, where P reverses the order of the columns, then U = P L^-1 P is upper triangular and
U'U = H^-1.

*Fused steps*: calibration samples pass each layer five times, with the norms, rotations and gates of the ``engine``.

*Stopped passes*: a pass that collects inputs ends with the last matrix it collects for; nobody reads that product.

*Kept activations*: a pass goes on from what those before it computed of the same layer (``kept_activations``), where
the GPU has room for it.

*Several GPUs*: gptqmodel copies the layer to each and has them pass one batch at a time, and all wait for the slowest;
here each passes its share of the batches without waiting. Hessians are the sums of those of the shares, and matrices
of a group are solved on different GPUs, by gptqmodel.

*Packing on the side*: while a layer is packed on the host, gptqmodel goes on to the next one, but not on several GPUs,
where its comments fear for their memory. Quantized layers have left the GPUs by then, so here it goes on there, too.

*Page-locked memory*: quantized layers are copied to the host to be packed there, through page-locked memory some twenty
times as fast.

*Writing*: gptqmodel copies each tensor before it writes it. A file goes to the disk while the next is written and
hashes are computed. (This holds for CPUs, too: the bytes are the same.)

*Raised diagonals*: where a damped Hessian has no Cholesky factor, gptqmodel adds to its diagonal until it has one, and
says so in its log alone. That is damping which nobody asked for.

*Dead columns*: what multiplies an input that was zero for every calibration token has no Hessian; gptqmodel sets it to
zero and says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch


@contextmanager
def faster_on_gpus() -> Iterator[None]:
    """Within this context gptqmodel takes less time on CUDA devices, by all of the ways below."""
    with (
        accumulate_on_tensor_cores(),
        fused_layers(),
        passes_without_last_product(),
        passes_side_by_side(),
        packing_beside_next_layer(),
        passes_from_kept_activations(),
        factor_once(),
        solve_with_kernels(),
        quantized_layers_through_page_locked_memory(),
    ):
        yield


@contextmanager
def recorded() -> Iterator[tuple[dict[str, float], dict[str, int]]]:
    """Yields the records of ``raised_diagonals`` and of ``dead_columns``."""
    with raised_diagonals() as raised, dead_columns() as dead:
        yield raised, dead


@contextmanager
def accumulate_on_tensor_cores() -> Iterator[None]:
    """Within this context gptqmodel multiplies bf16 activations on CUDA devices as they are; others are unchanged."""
    import torch
    from gptqmodel.quantization.gptq import GPTQ

    def compute_hessian_xtx(by_gptqmodel: Callable[..., Any], task: Any, matrix: torch.Tensor) -> Any:
        if matrix.device.type == "cuda" and matrix.dtype == torch.bfloat16:
            return torch.mm(matrix.T, matrix, out_dtype=torch.float32)
        return by_gptqmodel(task, matrix)

    with _replaced(GPTQ, "compute_hessian_xtx", compute_hessian_xtx):
        yield


@contextmanager
def solve_with_kernels() -> Iterator[None]:
    """Within this context linear layers on CUDA devices are solved by ``quantize_matrix``; others are unchanged."""
    from gptqmodel.quantization.gptq import GPTQ
    from torch import nn

    def quantize(by_gptqmodel: Callable[..., Any], task: Any) -> Any:
        is_ours = task.nsamples and isinstance(task.module, nn.Linear) and task.module.weight.device.type == "cuda"
        return quantize_matrix(task) if is_ours else by_gptqmodel(task)

    with _replaced(GPTQ, "quantize", quantize):
        yield


def quantize_matrix(
    task: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float, float, float, int]:
    """What gptqmodel's ``GPTQ.quantize`` returns of a linear layer whose Hessian it accumulated: the rounded weights,
    scales and zero points, the group of each column, seconds, loss for each token, damping and tokens.

    The options that are off for every study (static groups, groups in the order of activations, search for the range
    with the least error, fallback, padding) are not looked at.

    Raises:
        RuntimeError: the Hessian is not finite or cannot be inverted.
    """
    import torch

    from stratalaw.quantization.solving import Levels, solve

    started = time.time()
    config, weight = task.qcfg, task.module.weight
    task.finalize_hessian(target_device=weight.device)
    task._release_deferred_hessian_sources()  # sums that it was made from, as large as it is
    weights = task.clone_module(device=weight.device)
    diagonal = task.H.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    order = torch.argsort(diagonal, descending=True) if config.desc_act else None
    if order is not None:
        weights, dead, task.H = weights[:, order], dead[order], task.H[order][:, order]

    def invert() -> tuple[torch.Tensor | None, float, torch.Tensor | None]:
        factor, damping = task.hessian_inverse(task.H)
        return factor, damping, None if factor is None else task.H.diagonal().clone()

    factor, damping, _ = task._shared_factor_or_local("desc_act" if config.desc_act else "natural", invert)
    task.H = None
    where = f"layer {task._named_module.layer_index}.{task.name}" if task._named_module else "a matrix"
    if factor is None:
        raise RuntimeError(f"{where}: its Hessian cannot be inverted")
    solution = solve(weights.contiguous(), factor, Levels(config.bits, config.group_size, config.sym), dead)
    loss = solution.error.item() / task.nsamples
    if not loss < float("inf"):
        raise RuntimeError(f"{where}: its Hessian cannot be inverted (loss {loss})")
    size = config.group_size if config.group_size != -1 else task.columns
    groups = torch.arange(task.columns, device=weight.device, dtype=torch.int32) // size
    rounded = solution.weights
    if order is not None:
        inverse = torch.argsort(order)
        rounded, groups = rounded[:, inverse], groups[inverse]
    rounded = rounded.to(weight.dtype).contiguous()
    return rounded, solution.scales, solution.zeros, groups, time.time() - started, loss, damping, task.nsamples


@contextmanager
def factor_once() -> Iterator[None]:
    """Within this context Hessians on CUDA devices are factorized once; gptqmodel's way remains for those that have no
    Cholesky factor, and for others."""
    from gptqmodel.quantization.gptq import GPTQ

    def hessian_inverse(by_gptqmodel: Callable[..., Any], task: Any, hessian: torch.Tensor) -> Any:
        damping = float(task.qcfg.damp_percent)
        factor = inverse_factor(hessian, damping) if hessian.device.type == "cuda" else None
        return by_gptqmodel(task, hessian) if factor is None else (factor, damping)

    with _replaced(GPTQ, "hessian_inverse", hessian_inverse):
        yield


def inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor | None:
    """The upper triangle U of the inverse U'U of a Hessian whose diagonal was raised by ``damping`` times its mean, or
    None if it has no Cholesky factor."""
    import torch

    reversed_ = hessian.flip(0, 1)
    diagonal = reversed_.diagonal()
    diagonal.add_(damping * diagonal.mean())
    lower, failed = torch.linalg.cholesky_ex(reversed_)
    del reversed_, diagonal  # large: two more of this size are to come
    if failed.item():
        return None
    identity = torch.eye(len(lower), device=lower.device)
    inverse: torch.Tensor = torch.linalg.solve_triangular(lower, identity, upper=False)
    return inverse.flip(0, 1)


@contextmanager
def fused_layers() -> Iterator[None]:
    """Within this context the layer that gptqmodel has on a CUDA device takes its steps fused."""
    from gptqmodel.models.base import BaseQModel

    from stratalaw.engine.fusion import fused_steps

    with ExitStack() as steps:

        def pre_quantize(by_gptqmodel: Callable[..., Any], model: Any, layer: torch.nn.Module) -> Any:
            steps.close()  # those of the layer before
            layer = by_gptqmodel(model, layer)
            steps.enter_context(fused_steps(layer))
            return layer

        with _replaced(BaseQModel, "pre_quantize", pre_quantize):
            yield


@contextmanager
def passes_without_last_product() -> Iterator[None]:
    """Within this context a pass on a CUDA device that stops after a matrix stops before its product."""
    import torch
    from gptqmodel.nn_modules.hooked_linear import STOP_FORWARD_EXCEPTION, HookedLinear

    def forward(by_gptqmodel: Callable[..., Any], layer: Any, inputs: torch.Tensor) -> Any:
        if not (layer.forward_hook and layer.forward_hook_last and inputs.is_cuda):
            return by_gptqmodel(layer, inputs)
        with torch.inference_mode():
            layer.forward_hook(layer, (inputs,), inputs)  # for the outputs, which GPTQ does not look at
        raise STOP_FORWARD_EXCEPTION.with_traceback(None)

    with _replaced(HookedLinear, "forward", forward):
        yield


@contextmanager
def passes_side_by_side() -> Iterator[None]:
    """Within this context each of several devices passes its share of the batches through its copy of the layer.

    Layers that leave keys and values to the next one are passed as by gptqmodel.
    """
    from gptqmodel.looper.forward_executor import ForwardExecutor

    def run_parallel(by_gptqmodel: Callable[..., Any], executor: Any, **options: Any) -> Any:
        model = executor.looper.gptq_model
        choose = model.quantize_config.compute_device_filter
        devices = choose(options["devices"]) if choose else options["devices"]
        if len(devices) == 1:
            del options["devices"]
            return executor.run_single(**options)
        if options["reuse_kv"] or getattr(model, "write_shared_kv_cache", False):
            return by_gptqmodel(executor, **options)
        return pass_shares(executor, **options | {"devices": devices})

    with _replaced(ForwardExecutor, "run_parallel", run_parallel):
        yield


@contextmanager
def packing_beside_next_layer() -> Iterator[None]:
    """Within this context layers on several devices are packed while the next one is quantized, as on one device."""
    from gptqmodel.looper import stage_layer

    def must_wait(by_gptqmodel: Callable[..., bool], looper: Any, **options: Any) -> bool:
        as_on_one = SimpleNamespace(gptq_model=looper.gptq_model, _quant_devices=looper._quant_devices[:1])
        return by_gptqmodel(as_on_one, **options)

    with _replaced(stage_layer, "_should_drain_finalize_futures_synchronously", must_wait):
        yield


@contextmanager
def passes_from_kept_activations(free_bytes: Callable[[torch.device], int] | None = None) -> Iterator[None]:
    """Within this context passes keep activations for those after them, where ``free_bytes`` of a device allow it.

    Without it that is the free memory of CUDA devices; others pass each layer as by gptqmodel.
    """
    from gptqmodel.looper.forward_executor import ForwardExecutor

    from stratalaw.quantization.kept_activations import KeptActivations, Pass, free_on_gpu

    kept = KeptActivations(free_bytes or free_on_gpu)

    def run_single(by_gptqmodel: Callable[..., Any], executor: Any, **options: Any) -> Any:
        if options["reuse_kv"] or getattr(executor.looper.gptq_model, "write_shared_kv_cache", False):
            return by_gptqmodel(executor, **options)
        passing = Pass(
            layer=options["module"],
            layer_index=options["layer_index"],
            device=options["cur_layer_device"],
            shapes=[inputs[0].shape for inputs in options["layer_inputs"]],
            for_outputs=options["need_outputs"],
            batch=options["processor"].current_batch_index,
        )
        with kept.during(passing):
            return by_gptqmodel(executor, **options)

    with _replaced(ForwardExecutor, "run_single", run_single):
        yield


def pass_shares(
    executor: Any, *, module: torch.nn.Module, devices: list[torch.device], need_outputs: bool, **options: Any
) -> list[list[torch.Tensor]]:
    """What gptqmodel's ``ForwardExecutor.run_parallel`` returns: the outputs of all batches, if they are needed.

    Batch i is of device i modulo their number, where gptqmodel has put it if calibration data are "balanced".
    """
    import torch
    from gptqmodel.utils.looper_helpers import clone_module_for_devices

    from stratalaw.engine.fusion import share_steps

    model = executor.looper.gptq_model
    copies = clone_module_for_devices(module, devices, root_module=model.model)
    for copy in copies.values():
        share_steps(module, copy)
    n_batches = len(options["layer_inputs"])
    shares = {device: range(first, n_batches, len(devices)) for first, device in enumerate(devices)}
    by_batch = ("layer_inputs", "layer_input_kwargs", "position_ids", "attention_masks")
    # The progress would be that of all batches.
    same = {name: value for name, value in options.items() if name not in by_batch and "progress" not in name}

    @torch.inference_mode()
    def passed(device: torch.device) -> Any:
        share = {name: options[name] and [options[name][batch] for batch in shares[device]] for name in by_batch}
        here = same | share | {"cur_layer_device": device, "need_outputs": need_outputs}
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return executor.run_single(module=copies[device], **here)

    outputs: list[Any] = [None] * n_batches
    busy = [device for device in devices if shares[device]]
    with ThreadPoolExecutor(len(busy)) as threads:
        for device, of_share in zip(busy, threads.map(passed, busy), strict=True):
            for batch, output in zip(shares[device], of_share, strict=need_outputs):
                outputs[batch] = output
    return outputs if need_outputs else []


@contextmanager
def write_without_copy() -> Iterator[None]:
    """Within this context gptqmodel writes tensors from where they are."""
    import torch
    from gptqmodel.utils import model as writer

    def write(by_gptqmodel: Callable[..., Any], file: BinaryIO, tensor: torch.Tensor, dtype: torch.dtype) -> None:
        file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)

    with _replaced(writer, "_write_tensor_bytes", write):
        yield


@contextmanager
def flushed_when_written() -> Iterator[None]:
    """Within this context each file of weights is flushed to the disk as soon as gptqmodel has written it; at its end
    all are there.

    Raises:
        OSError: the disk failed.
    """
    from gptqmodel.utils import model as writer

    from stratalaw.files import synchronize

    with ThreadPoolExecutor(1) as thread:
        flushed: list[Future[None]] = []

        def write_file(by_gptqmodel: Callable[..., Any], path: str, *arguments: Any) -> Any:
            size = by_gptqmodel(path, *arguments)
            flushed.append(thread.submit(synchronize, Path(path)))
            return size

        with _replaced(writer, "_write_shard_file", write_file):
            yield
        for file in flushed:
            file.result()


@contextmanager
def quantized_layers_through_page_locked_memory() -> Iterator[None]:
    """Within this context layers that leave a CUDA device after quantization go to page-locked memory of the host."""
    import torch
    from gptqmodel.models.base import BaseQModel

    def to_host(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type != "cuda":
            return tensor
        host = torch.empty_like(tensor, device="cpu", pin_memory=True)
        return host.copy_(tensor, non_blocking=True)

    def post_quantize(by_gptqmodel: Callable[..., Any], model: Any, layer: Any) -> Any:
        devices = {parameter.device for parameter in layer.parameters() if parameter.is_cuda}
        if devices:
            layer._apply(to_host)
        for device in devices:
            torch.cuda.synchronize(device)
        return by_gptqmodel(model, layer)

    with _replaced(BaseQModel, "post_quantize", post_quantize):
        yield


@contextmanager
def raised_diagonals() -> Iterator[dict[str, float]]:
    """Yields what was added to the diagonals of Hessians within this context, beyond the damping that was asked for.

    By the matrix as gptqmodel logs it (``layer.module``), as a share of the mean of the diagonal, like the damping.
    """
    from gptqmodel.quantization.gptq import GPTQ

    raised: dict[str, float] = {}

    def note(task: Any, before: torch.Tensor, after: torch.Tensor) -> None:
        share = ((after - before).mean() / before.mean()).item()
        if share > 0:
            raised[f"{task._named_module.layer_index}.{task.name}"] = share

    def hessian_inverse(by_gptqmodel: Callable[..., Any], task: Any, hessian: torch.Tensor) -> Any:
        before = hessian.diagonal().clone()
        inverse = by_gptqmodel(task, hessian)
        note(task, before, hessian.diagonal())
        return inverse

    # Matrices with the same inputs share a factor; those that did not compute it learn here what it was made from.
    def shared_factor(by_gptqmodel: Callable[..., Any], task: Any, ordering: Any, producer: Any) -> Any:
        before = task.H.diagonal().clone()
        factor, damping, after = by_gptqmodel(task, ordering, producer)
        if after is not None:
            note(task, before, after)
        return factor, damping, after

    with _replaced(GPTQ, "hessian_inverse", hessian_inverse), _replaced(GPTQ, "_shared_factor_or_local", shared_factor):
        yield raised


@contextmanager
def dead_columns() -> Iterator[dict[str, int]]:
    """Yields how many columns of each matrix are set to zero within this context, by the matrix as gptqmodel logs
    it."""
    from gptqmodel.quantization.gptq import GPTQ

    dead: dict[str, int] = {}

    def finalize_hessian(by_gptqmodel: Callable[..., Any], task: Any, **options: Any) -> None:
        by_gptqmodel(task, **options)
        dead[f"{task._named_module.layer_index}.{task.name}"] = int((task.H.diagonal() == 0).sum())

    with _replaced(GPTQ, "finalize_hessian", finalize_hessian):
        yield dead


@contextmanager
def _replaced(owner: type | ModuleType, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Within this context a method or function is ``replacement``, which takes the original as its first argument."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: replacement(original, *args, **kwargs))
    try:
        yield
    finally:
        setattr(owner, name, original)
