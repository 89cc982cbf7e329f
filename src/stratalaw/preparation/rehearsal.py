"""The whole chain with a tiny random model: quantized, stored, loaded, and its answers beside those of transformers.

``python -m stratalaw.preparation.rehearsal FOLDER`` rehearses what ``FOLDER/asked.json`` asks for, on the CPU, and
prints one line of JSON. gptqmodel, which changes transformers, is only in the process that quantizes.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratalaw.errors import StratalawError
from stratalaw.files import write_json
from stratalaw.models.folder import CONFIG, copy_model, read_object
from stratalaw.study.variants import Quantization
from stratalaw.text import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROGRAM = "stratalaw.preparation.rehearsal"
ASKED = "asked.json"
ORIGINAL, MODEL, LOG = "original", "model", "quantize.log"
QUANTIZE = "--quantize"
MAX_LAYERS = 16
MAX_PARAMETERS, MAX_BYTES = 100_000_000, 16 * 2**30
SAMPLES, SAMPLE_TOKENS, LETTERS = 4, 64, 250
MAX_DIFFERENCE = 1e-3  # nats, in float32
# Relative. A weight in another's place is off by the square root of 2; rounding to 2 bits can move one as far.
MAX_ERROR = 1.2
MAX_ERRORS = {2: math.inf}


class RehearsalError(StratalawError):
    """A step that failed; the message begins with what was being done."""


class NotRehearsedError(StratalawError):
    """There is no tiny model to rehearse with; the message says why."""


def rehearse(folder: Path) -> dict[str, Any]:
    """Rehearse in a folder with the model's ``config.json`` and what is asked: names of variants, and options of GPTQ.

    Returns:
        ``difference``: the largest between log-likelihoods, in nats; ``parameters``: those of the tiny model.

    Raises:
        NotRehearsedError: no small model of the configuration can be made that runs by itself.
        RehearsalError: a step failed.
    """
    asked = read_object(folder / ASKED)
    variants: list[str] = asked["variants"]
    parameters = make_tiny_model(folder, [bits_of(variant) for variant in variants])
    with doing("copying"):
        copy_model(folder / ORIGINAL, folder / MODEL)
    with doing("quantizing"), (folder / LOG).open("w") as log:
        command = [sys.executable, "-m", PROGRAM, str(folder), QUANTIZE]
        if subprocess.run(command, stdout=log, stderr=log).returncode:
            raise RuntimeError(last_error((folder / LOG).read_text(errors="replace")))
    differences = []
    for variant in (MODEL, *variants):
        with doing("loading" if variant == MODEL else f"loading {variant}"):
            from stratalaw.evaluation.answers import load_dense

            model = load_dense(folder / variant, "cpu").float()
            if variant == MODEL:
                original = model
            elif not 0 < (error := largest_error(model, original)) < MAX_ERRORS.get(bits_of(variant), MAX_ERROR):
                raise RuntimeError(f"a weight is off by {error:.2g} of its size")
        with doing("scoring" if variant == MODEL else f"scoring {variant}"):
            difference = largest_difference(model, folder / f"dense-{variant}")
            if not difference < MAX_DIFFERENCE:
                raise RuntimeError(f"log-likelihoods are {difference:.2g} nats from those of transformers")
            differences.append(difference)
    return {"difference": max(differences), "parameters": parameters}


def bits_of(variant: str) -> int:
    """The bits of a variant, by its name."""
    return Quantization.from_name(variant).bits


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Within this context any error is that of a step."""
    try:
        yield
    except Exception as error:  # whatever code of many authors makes of a model
        raise RehearsalError(f"{what}: {one_line(error) or type(error).__name__}") from error


def make_tiny_model(folder: Path, bits: Sequence[int]) -> int:
    """Store the smallest random model of a configuration that runs by itself; its number of parameters.

    Raises:
        NotRehearsedError: there is none.
    """
    from transformers import AutoConfig

    from stratalaw.models.shrinking import shrink

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    whole, reasons = json.loads(config.to_json_string(use_diff=False)), []
    try:
        layers = layers_of_each_kind(folder)
    except Exception as error:  # as above
        raise NotRehearsedError(f"its layers cannot be told apart: {one_line(error)}") from error
    for smaller in ({}, {"head_sizes": False}, {"heads": False, "head_sizes": False}):
        try:
            parameters = store_random_model(shrink(whole, layers, **smaller), folder / ORIGINAL, bits)
        except Exception as error:  # of a size that does not fit another: a less small one may
            reasons.append(one_line(error) or type(error).__name__)
        else:
            return parameters
    raise NotRehearsedError(f"no small model of its configuration runs: {'; '.join(dict.fromkeys(reasons))}")


def layers_of_each_kind(config_folder: Path) -> int:
    """How many of the first layers of a model have one of every kind, two at least, and ``MAX_LAYERS`` at most.

    Layers are of one kind that have the same modules, with the same switches and shapes.
    """
    from torch.nn import ModuleList

    from stratalaw.models.empty import empty_model

    model = empty_model(config_folder)
    n_layers = model.config.get_text_config().num_hidden_layers
    stack = max(
        (module for module in model.modules() if isinstance(module, ModuleList) and len(module) == n_layers),
        key=lambda module: sum(weight.numel() for weight in module.parameters()),
    )
    kinds = [_kind_of(layer) for layer in stack]
    first = [kinds.index(kind) for kind in set(kinds)]
    needed: int = min(max(1, *first) + 1, n_layers, MAX_LAYERS)
    return needed


def _kind_of(layer: Any) -> str:
    described = [
        (name, type(module).__name__, sorted((key, _switch(value)) for key, value in vars(module).items()))
        for name, module in layer.named_modules()
    ]
    return repr((described, [(name, tuple(weight.shape)) for name, weight in layer.named_parameters()]))


def _switch(value: object) -> object:
    """A switch as it is, the kind of anything else: where a layer stands is a number."""
    return value if isinstance(value, bool | str) else type(value).__name__


def store_random_model(settings: Mapping[str, Any], folder: Path, bits: Sequence[int]) -> int:
    """Store a random model as the Hub has it, once it was found to run; its number of parameters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from stratalaw.models.empty import empty_model, tensors_to_store
    from stratalaw.models.shapes import shapes_of_tensors

    folder.mkdir(exist_ok=True)
    write_json(settings, folder / CONFIG)
    empty = empty_model(folder)
    shapes = shapes_of_tensors(tensors_to_store(empty), settings, folder)
    if shapes.n_params > MAX_PARAMETERS:
        raise ValueError(f"it has {shapes.n_params:,} parameters, and at most {MAX_PARAMETERS:,} are rehearsed")
    for matrix in shapes.matrices:
        for width in bits:
            if not matrix.can_be_packed(width):
                raise ValueError(f"{matrix.name} of {matrix.out_features} x {matrix.in_features} cannot be packed")
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    scatter_weights(model)
    context, continuation = (part[-1] for part in requests())
    if not torch.isfinite(torch.tensor(log_likelihood(model.eval(), context, continuation))):
        raise ValueError("its log-likelihoods are not finite")
    model.bfloat16().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return shapes.n_params


def scatter_weights(model: PreTrainedModel) -> None:
    """Make a new model's weights random, and large enough that a wrong one shows."""
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape)
            weight.copy_(weight + 0.1 * noise if weight.ndim < 2 else 0.5 * noise * weight.shape[-1] ** -0.5)


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer with one token for each byte, and one for the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|end|>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def quantize_tiny_model(folder: Path) -> None:
    """Quantize as asked."""
    import numpy as np

    from stratalaw.quantization.gptq import quantize
    from stratalaw.study import Gptq

    asked = read_object(folder / ASKED)
    samples = np.random.default_rng(1).integers(LETTERS, size=(SAMPLES, SAMPLE_TOKENS)).tolist()
    for name in asked["variants"]:
        quantize(folder / MODEL, folder / name, Quantization.from_name(name), samples, Gptq(**asked["options"]))


def last_error(log: str) -> str:
    """The last line of a log that names an error, or its last one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
    return (errors or lines or ["the process ended without a word"])[-1]


def requests() -> tuple[list[list[int]], list[list[int]]]:
    """Contexts of mixed lengths, two with the same beginning each, and continuations."""
    import numpy as np

    rng = np.random.default_rng(0)
    beginnings = [rng.integers(LETTERS, size=length) for length in (20, 90)]
    contexts = [
        np.append(beginning, rng.integers(LETTERS, size=2)).tolist() for beginning in beginnings for _ in range(2)
    ]
    return contexts, [rng.integers(LETTERS, size=length).tolist() for length in (1, 4, 2, 6)]


def largest_error(model: PreTrainedModel, original: PreTrainedModel) -> float:
    """The largest relative difference (Frobenius norm) of a weight from that of another model."""
    exact = original.state_dict()
    return max(
        float((weight - exact[name]).norm() / exact[name].norm().clamp_min(1e-9))
        for name, weight in model.state_dict().items()
    )


def largest_difference(model: PreTrainedModel, dense: Path) -> float:
    """The largest difference in nats between the engine's log-likelihoods and those of transformers, which loads the
    same weights from a folder, one request at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    from stratalaw.engine import log_likelihoods

    contexts, continuations = requests()
    longest = max(map(len, contexts)) + max(map(len, continuations))
    ours = log_likelihoods(model, contexts, continuations, tokens_per_batch=1024, max_length=longest).total
    model.save_pretrained(dense)
    theirs = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, trust_remote_code=False).eval()
    exact = [log_likelihood(theirs, *request) for request in zip(contexts, continuations, strict=True)]
    return max(abs(float(our) - their) for our, their in zip(ours, exact, strict=True))


def log_likelihood(model: PreTrainedModel, context: Sequence[int], continuation: Sequence[int]) -> float:
    """Of a continuation, in nats, as the model gives it for the whole text."""
    import torch

    tokens = torch.tensor([[*context, *continuation]])
    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False).logits[0, len(context) - 1 : -1].float()
    return float(logits.log_softmax(-1).gather(1, tokens[0, len(context) :, None]).sum())


def main(folder: Path) -> dict[str, Any]:
    """What a rehearsal found: ``failed`` or ``impossible`` with the reason, or the numbers of ``rehearse``."""
    try:
        return rehearse(folder)
    except RehearsalError as error:
        return {"failed": str(error).replace(f"{folder}/", "")}
    except NotRehearsedError as error:
        return {"impossible": str(error).replace(f"{folder}/", "")}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    if QUANTIZE in sys.argv:
        quantize_tiny_model(place)
    else:
        print(json.dumps(main(place)))
