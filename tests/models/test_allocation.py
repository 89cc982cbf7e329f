"""Bits for each matrix: what gptqmodel and engines are told, and what is refused."""

import re

import pytest

from stratalaw.models.allocation import problems_of_allocation, read_quantization, rules_for_gptqmodel, write_allocation
from stratalaw.models.folder import ModelError
from stratalaw.models.shapes import Matrix, shapes_of_weights
from stratalaw.study.variants import Precision, Quantization

LAYER = "model.layers.1."
ATTENTION = [f"{LAYER}self_attn.{letter}_proj" for letter in "qkv"]
MATRICES = [Matrix(name, 64, 64) for name in (*ATTENTION, f"{LAYER}self_attn.o_proj", f"{LAYER}mlp.gate_proj")]


def mixed(names):
    return Quantization(3, 128, 8, 0, tuple((name, Precision(4, 64)) for name in sorted(names)))


def precision_of(rules, name):
    """As vLLM looks it up: the first pattern that matches from the start of a name."""
    return next((found for pattern, found in rules.items() if re.match(pattern.removeprefix("+:"), name)), None)


@pytest.mark.parametrize("name", [*ATTENTION, f"{LAYER}self_attn.qkv_proj"])
def test_the_rules_name_matrices_and_what_engines_make_of_them(name):
    rules = rules_for_gptqmodel(mixed(ATTENTION))
    assert precision_of(rules, name) == {"bits": 4, "group_size": 64}
    assert precision_of(rules, name.replace("layers.1", "layers.11")) is None
    assert precision_of(rules, f"{LAYER}self_attn.o_proj") is None


def test_experts_are_one_matrix_of_an_engine():
    experts = [f"{LAYER}mlp.experts.{number}.down_proj" for number in (0, 1)]
    assert precision_of(rules_for_gptqmodel(mixed(experts)), f"{LAYER}mlp.experts") == {"bits": 4, "group_size": 64}
    [problem] = problems_of_allocation(mixed(experts[:1]), [Matrix(name, 64, 64) for name in experts])
    assert "as one matrix" in problem


def test_a_uniform_variant_has_no_rules():
    assert rules_for_gptqmodel(Quantization(3, 128, 8, 0)) == {}


def test_parts_of_one_matrix_share_their_bits():
    assert problems_of_allocation(mixed(ATTENTION), MATRICES) == []
    [problem] = problems_of_allocation(mixed(ATTENTION[:1]), MATRICES)
    assert f"engines load {' and '.join(ATTENTION)} as one matrix" in problem


def test_an_unknown_matrix_is_refused():
    [problem] = problems_of_allocation(mixed([f"{LAYER}self_attn.q"]), MATRICES)
    assert f"the model has no matrix {LAYER}self_attn.q; it has {ATTENTION[0]} …" in problem


def test_the_bits_stand_beside_the_weights(tmp_path):
    quantization, uniform = mixed(ATTENTION), Quantization(3, 128, 8, 0)
    folder = tmp_path / quantization.name
    folder.mkdir()
    write_allocation(quantization, folder)
    assert read_quantization(folder) == quantization
    assert read_quantization(tmp_path / uniform.name) == uniform


def test_other_bits_than_the_name_stands_for_are_refused(tmp_path):
    folder = tmp_path / mixed(ATTENTION).name
    folder.mkdir()
    write_allocation(mixed(ATTENTION[:2]), folder)
    with pytest.raises(ModelError, match="not the bits that the name of its folder stands for"):
        read_quantization(folder)


def test_the_size_of_a_mixed_variant_lies_between_those_of_its_widths(small_model_folder):
    shapes = shapes_of_weights(small_model_folder)
    half = [matrix.name for matrix in shapes.matrices if "self_attn" in matrix.name]
    rest = [matrix.name for matrix in shapes.matrices if "self_attn" not in matrix.name]
    low, high = (shapes.weight_bytes(Quantization(bits, 64, 8, 0)) for bits in (3, 4))
    either = [
        shapes.weight_bytes(Quantization(3, 64, 8, 0, tuple((name, Precision(4, 64)) for name in names)))
        for names in (half, rest)
    ]
    assert low < min(either) and max(either) < high
    assert sum(either) == low + high
