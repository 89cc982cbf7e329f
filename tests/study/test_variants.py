import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalaw.study.variants import Quantization

quantizations = st.builds(
    Quantization,
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from([-1, 16, 128, 1024]),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
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


@pytest.mark.parametrize("name", ["bf16", "w3-g128-c32", "w3-g128-c32-s0/", "../w3-g128-c32-s0", "w3-g-2-c1-s0", ""])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is not the name of a quantized variant"):
        Quantization.from_name(name)
