"""Which engines run a GPTQ checkpoint, by the rules that they publish: bits, group sizes, order, and shapes.

A rule is what the engine's source says; ``source`` names the place. Nothing is said of engines whose rules were not
read. The checkpoint's format is gptqmodel's ``gptq``, in words of 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stratalaw.models.shapes import Matrix
from stratalaw.study import Gptq
from stratalaw.study.variants import Quantization


@dataclass(frozen=True)
class Engine:
    """An engine with one of its kernels.

    ``group_sizes``: those that it takes, None for all; ``divides_in`` and ``divides_out``: the input and the output
    features of a matrix are multiples of them; ``takes_ragged_groups``: the last group of a row may be short;
    ``takes_order``: columns may be quantized in the order of their activations; ``needs``: what else it asks for, in
    words; ``source``: where its rules stand.
    """

    name: str
    source: str
    bits: frozenset[int]
    group_sizes: frozenset[int] | None = None
    divides_in: int = 1
    divides_out: int = 1
    takes_asymmetric: bool = False
    takes_ragged_groups: bool = False
    takes_order: bool = True
    needs: str = ""


VLLM = "vllm-project/vllm, vllm/model_executor/layers/quantization"
GPTQMODEL = "gptqmodel 7.6.0, gptqmodel/nn_modules/qlinear"
OF_MARLIN = frozenset({-1, 32, 64, 128})
ENGINES = (
    Engine(
        "vLLM, Marlin",
        f"{VLLM}/gptq_marlin.py and utils/marlin_utils.py at 007d500",
        frozenset({4, 8}),
        OF_MARLIN,
        divides_in=128,
        divides_out=64,
        needs="an NVIDIA GPU since Turing",
    ),
    Engine(
        "vLLM, ExLlama",
        f"{VLLM}/kernels/mixed_precision/exllama.py at 09b8eba",
        frozenset({4, 8}),
        OF_MARLIN,  # vllm asks Marlin first whether it takes the group size
        divides_out=8,
        needs="activations in float16",
    ),
    Engine(
        "vLLM, Humming",
        f"{VLLM}/humming.py at 0237403; inclusionAI/humming, schema/gptq.py at d8a159d, docs/CONFIG.md at 2842481",
        frozenset({2, 3, 4, 8}),
        frozenset({16, 32, 64, 128, 256, 512, 1024}),
        divides_in=32,
        divides_out=32,
        takes_order=False,
        needs="`--quantization humming`, the package humming-kernels, and an NVIDIA GPU since Turing",
    ),
    Engine(
        "gptqmodel, Marlin",
        f"{GPTQMODEL}/marlin.py",
        frozenset({4, 8}),
        OF_MARLIN,
        needs="Linux and an NVIDIA GPU since Ampere",
    ),
    Engine(
        "gptqmodel, ExLlamaV2",
        f"{GPTQMODEL}/exllamav2.py",
        frozenset({4}),
        OF_MARLIN,
        divides_in=32,
        divides_out=32,
        takes_asymmetric=True,
        needs="an NVIDIA GPU",
    ),
    Engine(
        "gptqmodel, Triton",
        f"{GPTQMODEL}/tritonv2.py",
        frozenset({2, 4, 8}),
        divides_in=32,
        divides_out=32,
        takes_asymmetric=True,
        takes_ragged_groups=True,
        needs="an NVIDIA GPU",
    ),
    Engine(
        "gptqmodel, Torch (also what transformers uses on a CPU)",
        f"{GPTQMODEL}/torch.py",
        frozenset({2, 3, 4, 8}),
        takes_asymmetric=True,
        takes_ragged_groups=True,
    ),
)


def why_not(engine: Engine, quantization: Quantization, options: Gptq, matrices: Iterable[Matrix]) -> str:
    """The first rule of an engine that a checkpoint does not meet, in words; empty where it runs it."""
    matrices = list(matrices)
    precisions = {quantization.of(matrix.name) for matrix in matrices}
    if not {precision.bits for precision in precisions} <= engine.bits:
        return f"takes {_listed(sorted(engine.bits))} bits"
    if engine.group_sizes is not None and not {precision.group_size for precision in precisions} <= engine.group_sizes:
        rows = ", or whole rows" if -1 in engine.group_sizes else ""
        return f"takes groups of {_listed(sorted(engine.group_sizes - {-1}))}{rows}"
    if not options.symmetric and not engine.takes_asymmetric:
        return "takes symmetric quantization alone"
    if options.activation_order and not engine.takes_order:
        return "takes no columns in the order of activations"
    for matrix in matrices:
        shape = f"{matrix.name} has {matrix.out_features} x {matrix.in_features}"
        if matrix.in_features % engine.divides_in:
            return f"takes input features in multiples of {engine.divides_in}; {shape}"
        if matrix.out_features % engine.divides_out:
            return f"takes output features in multiples of {engine.divides_out}; {shape}"
        if matrix.is_ragged(quantization.of(matrix.name).group_size) and not engine.takes_ragged_groups:
            return f"takes no short last group; {shape}"
    return ""


def _listed(values: Sequence[int]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last
