"""What is said of an allocation; tests/workflow/test_allocation.py makes one of a measured study."""

from pathlib import Path

import pytest

from stratalaw.jobs.allocation import MOST_NEIGHBOURS, few, uniform_between
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.study import read_study
from stratalaw.study.variants import Quantization

LOW, THREE, HIGH = (Quantization(bits, 128, 32, 0) for bits in (2, 3, 4))


def test_no_more_neighbours_are_measured_than_are_meant():
    for count in range(30):
        near = [[str(place)] for place in range(count)]
        assert min(count, MOST_NEIGHBOURS // 2) <= len(few(near)) <= MOST_NEIGHBOURS
        assert few(near)[:1] == near[:1]


@pytest.mark.parametrize(
    ("between", "memory", "found"),
    [((LOW, HIGH), THREE, THREE.name), ((LOW, HIGH), LOW, None), ((LOW, THREE), THREE, None)],
)
def test_the_uniform_variant_between_two_is_named_where_it_takes_no_more(small_model_folder, between, memory, found):
    study, shapes = read_study(Path("config/demo.yaml")), shapes_of_weights(small_model_folder)
    assert uniform_between(study, "q3", shapes, between, shapes.weight_bytes(memory)) == found
