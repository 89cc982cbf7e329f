"""The rules of engines, those of gptqmodel beside what its kernels say of themselves."""

import importlib

import pytest

from stratalaw.export.engines import ENGINES, why_not
from stratalaw.models.shapes import Matrix
from stratalaw.study import Gptq
from stratalaw.study.variants import Precision, Quantization

BY_NAME = {engine.name.partition(" (")[0]: engine for engine in ENGINES}
WIDE = [Matrix("model.layers.0.mlp.up_proj", 4096, 11008)]


@pytest.mark.parametrize(
    ("engine", "module", "kernel"),
    [
        ("gptqmodel, Marlin", "marlin", "MarlinLinear"),
        ("gptqmodel, ExLlamaV2", "exllamav2", "ExllamaV2Linear"),
        ("gptqmodel, Triton", "tritonv2", "TritonV2Linear"),
        ("gptqmodel, Torch", "torch", "TorchLinear"),
    ],
)
def test_the_rules_are_those_that_gptqmodel_states(engine, module, kernel):
    theirs = getattr(importlib.import_module(f"gptqmodel.nn_modules.qlinear.{module}"), kernel)
    ours = BY_NAME[engine]
    assert ours.bits == {2, 3, 4, 8} & set(theirs.SUPPORTS_BITS)
    assert (ours.group_sizes or {-1, 16, 32, 64, 128, 256, 512, 1024}) == set(theirs.SUPPORTS_GROUP_SIZE)
    assert ours.takes_asymmetric == (False in theirs.SUPPORTS_SYM)
    assert True in theirs.SUPPORTS_DESC_ACT
    assert [ours.divides_in] == theirs.SUPPORTS_IN_FEATURES_DIVISIBLE_BY
    assert [ours.divides_out] == theirs.SUPPORTS_OUT_FEATURES_DIVISIBLE_BY


@pytest.mark.parametrize(
    ("engine", "variant", "options", "matrices", "reason"),
    [
        ("vLLM, Marlin", (4, 128), {}, WIDE, ""),
        ("vLLM, Marlin", (8, -1), {"activation_order": True}, WIDE, ""),
        ("vLLM, Marlin", (3, 128), {}, WIDE, "takes 4 or 8 bits"),
        ("vLLM, Marlin", (4, 16), {}, WIDE, "takes groups of 32, 64 or 128, or whole rows"),
        ("vLLM, Marlin", (4, 128), {"symmetric": False}, WIDE, "takes symmetric quantization alone"),
        ("vLLM, Marlin", (4, 64), {}, [Matrix("a", 192, 128)], "takes input features in multiples of 128; a has 128 x"),
        ("vLLM, Marlin", (4, 64), {}, [Matrix("a", 128, 96)], "takes output features in multiples of 64"),
        ("vLLM, ExLlama", (4, 128), {}, [Matrix("a", 192, 128)], "takes no short last group"),
        ("vLLM, Humming", (3, 16), {}, WIDE, ""),
        ("vLLM, Humming", (2, 1024), {}, WIDE, ""),
        ("vLLM, Humming", (4, -1), {}, WIDE, "takes groups of 16, 32, 64, 128, 256, 512 or 1024"),
        ("vLLM, Humming", (4, 128), {"activation_order": True}, WIDE, "takes no columns in the order of activations"),
        ("vLLM, Humming", (3, 64), {}, [Matrix("a", 128, 48)], "takes output features in multiples of 32"),
        ("gptqmodel, Torch", (3, 16), {"symmetric": False}, WIDE, ""),
    ],
)
def test_what_an_engine_does_not_take_is_said(engine, variant, options, matrices, reason):
    said = why_not(BY_NAME[engine], Quantization(*variant, 8, 0), Gptq(**options), matrices)
    assert said.startswith(reason) and bool(said) == bool(reason)


def test_every_matrix_of_a_mixed_variant_must_be_taken():
    up, down = Matrix("up", 4096, 11008), Matrix("down", 11008, 4096)
    marlin = BY_NAME["vLLM, Marlin"]

    def said(precision):
        return why_not(marlin, Quantization(4, 128, 8, 0, (("down", precision),)), Gptq(), [up, down])

    assert said(Precision(8, 32)) == ""
    assert said(Precision(3, 128)) == "takes 4 or 8 bits"
    assert said(Precision(8, 256)).startswith("takes groups of 32, 64 or 128")
