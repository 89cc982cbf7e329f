"""What is said of an allocation; tests/workflow/test_allocation.py makes one of a measured study."""

from pathlib import Path

import pytest

from stratalaw.jobs.allocation import uniform_between
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.study import read_study
from stratalaw.study.variants import Quantization

LOW, THREE, HIGH = (Quantization(bits, 128, 32, 0) for bits in (2, 3, 4))


@pytest.mark.parametrize(
    ("between", "memory", "found"),
    [((LOW, HIGH), THREE, THREE.name), ((LOW, HIGH), LOW, None), ((LOW, THREE), THREE, None)],
)
def test_the_uniform_variant_between_two_is_named_where_it_takes_no_more(small_model_folder, between, memory, found):
    study, shapes = read_study(Path("config/demo.yaml")), shapes_of_weights(small_model_folder)
    assert uniform_between(study, "q3", shapes, between, shapes.weight_bytes(memory)) == found
