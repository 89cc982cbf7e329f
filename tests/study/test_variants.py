import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalaw.study.variants import (
    Precision,
    Quantization,
    calibration_of,
    draw_of,
    is_mixed,
    is_quantized_here,
    seed_and_mixture,
)

quantizations = st.builds(
    Quantization,
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from([-1, 16, 128, 1024]),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
    mixture=st.sampled_from(["", "even", "s0", "science"]),
)


@given(quantizations)
def test_a_name_says_all(quantization):
    assert Quantization.from_name(quantization.name) == quantization


@given(quantizations, quantizations)
def test_names_differ_when_variants_do(a, b):
    assert (a.name == b.name) == (a == b)


def test_the_name_reads_as_documented():
    assert Quantization(3, 128, 32, 0).name == "w3-g128-c32-s0"
    assert Quantization(4, -1, 8, 2).name == "w4-g-1-c8-s2"
    assert Quantization(3, 128, 32, 0, mixture="even").name == "w3-g128-c32-s0-even"


@given(quantizations)
def test_the_name_of_a_draw_says_all_and_stands_in_that_of_the_variant(quantization):
    draw = draw_of(quantization.name)
    assert draw == quantization.draw and quantization.name.endswith(f"-{draw}")
    assert seed_and_mixture(draw) == (quantization.calibration_seed, quantization.mixture)


@pytest.mark.parametrize(
    "name",
    [
        "bf16",
        "w3-g128-c32",
        "w3-g128-c32-s0/",
        "../w3-g128-c32-s0",
        "w3-g-2-c1-s0",
        "",
        "w3-g128-c8-s0-",
        "w3-g128-c8-s0-A",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is not the name of a quantized variant"):
        Quantization.from_name(name)


MIXED = Quantization(3, 128, 32, 1, (("model.layers.0.mlp.down_proj", Precision(4, 64)),))


def test_a_mixed_variant_is_named_by_its_bits_and_its_calibration():
    assert is_mixed(MIXED.name) and is_quantized_here(MIXED.name) and MIXED.name.endswith("-c32-s1")
    assert calibration_of(MIXED.name) == (32, 1, "") == calibration_of("w3-g128-c32-s1")
    of_mixture = Quantization.from_allocation(MIXED.allocation, 32, 1, "even")
    assert of_mixture.name == f"{MIXED.name}-even" and calibration_of(of_mixture.name) == (32, 1, "even")
    assert MIXED.of("model.layers.0.mlp.down_proj") == Precision(4, 64)
    assert MIXED.of("model.layers.1.mlp.down_proj") == Precision(3, 128)
    with pytest.raises(ValueError, match="is not the name of a quantized variant"):
        Quantization.from_name(MIXED.name)


def test_the_same_bits_of_each_matrix_have_the_same_name():
    bits = MIXED.allocation
    assert Quantization.from_allocation(bits, 32, 1) == MIXED
    as_the_rest = bits["matrices"] | {"model.layers.1.mlp.down_proj": {"bits": 3, "group_size": 128}}
    assert Quantization.from_allocation(bits | {"matrices": as_the_rest}, 32, 1).name == MIXED.name
    assert Quantization.from_allocation(bits | {"bits": 2}, 32, 1).name != MIXED.name
    assert Quantization.from_allocation(bits | {"matrices": {}}, 32, 1).name == "w3-g128-c32-s1"


@pytest.mark.parametrize("name", ["bf16", "awq", "mixed-1-c8-s0", "mixed-0123456789ab-c8"])
def test_other_variants_are_not_quantized_here(name):
    assert not is_quantized_here(name) and not is_mixed(name)
