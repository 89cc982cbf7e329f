"""Measured on a small model and a copy of it that was changed a little."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from stratalaw.models.shapes import Matrix, shapes_of_weights
from stratalaw.sensitivities.first_order import first_order_gains
from stratalaw.sensitivities.measuring import Subject, measured_gains
from stratalaw.sensitivities.swapping import parameters_of_groups, swapped

CHANGED = "model.layers.0.mlp.gate_up_proj"


@pytest.fixture(scope="module")
def model(small_model_folder):
    return AutoModelForCausalLM.from_pretrained(small_model_folder, dtype="float32").eval()


@pytest.fixture(scope="module")
def groups(model, small_model_folder):
    return parameters_of_groups(model, shapes_of_weights(small_model_folder).matrices)


@pytest.fixture(scope="module")
def asked():
    rng = np.random.default_rng(0)
    rows = [
        (task, document, choice == 0, context, rng.integers(5, 1000, size=1 + choice))
        for task in ("t", "u")
        for document in range(4)
        for context in [rng.integers(5, 1000, size=6 + document)]
        for choice in range(3)
    ]
    return pd.DataFrame(rows, columns=["task", "document", "is_right", "context", "continuation"])


@pytest.fixture(scope="module")
def written():
    """Items with one continuation, of several tokens."""
    rng = np.random.default_rng(1)
    rows = [
        ("t", document, True, rng.integers(5, 1000, size=6), rng.integers(5, 1000, size=1 + document))
        for document in range(8)
    ]
    return pd.DataFrame(rows, columns=["task", "document", "is_right", "context", "continuation"])


def subject_with(model, groups, asked, scale):
    """The changed copy differs in one group alone, by ``scale`` of its weights at most."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in groups[CHANGED]:
            weight = other.get_parameter(name)
            weight += scale * weight * torch.randn(weight.shape, generator=generator)
    parameters = {name: value.detach() for name, value in other.named_parameters()}
    return Subject(model, {"other": parameters}, groups, {"s": asked}, tokens_per_batch=64), other


def test_each_matrix_belongs_to_one_group(groups):
    names = [name for of_group in groups.values() for name in of_group]
    assert len(names) == len(set(names)) == 14 and len(groups) == 8
    assert groups[CHANGED] == [f"model.layers.0.mlp.{half}_proj.weight" for half in ("gate", "up")]


def test_experts_in_one_tensor_are_one_group():
    model = torch.nn.Module()
    model.experts = torch.nn.Module()
    model.experts.gate_up_proj = torch.nn.Parameter(torch.zeros(2, 4, 4))
    matrices = [Matrix(f"experts.{number}.{half}_proj", 4, 2) for number in (0, 1) for half in ("gate", "up")]
    assert parameters_of_groups(model, matrices) == {"experts": ["experts.gate_up_proj"]}
    with pytest.raises(ValueError, match="no parameter for down"):
        parameters_of_groups(model, [*matrices, Matrix("down", 4, 4)])


def test_a_swapped_model_is_the_other_one_and_then_itself_again(model, groups, asked):
    subject, other = subject_with(model, groups, asked, scale=0.5)
    before = copy.deepcopy(model.state_dict())
    with swapped(model, {name: subject.others["other"][name] for names in groups.values() for name in names}):
        assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_the_gain_of_a_group_is_what_its_weights_alone_change(model, groups, asked):
    subject, other = subject_with(model, groups, asked, scale=0.5)
    gains = measured_gains(subject).set_index("group")
    assert (gains.gain.drop(CHANGED) == 0).all() and gains.n_items.unique().tolist() == [8]
    whole = Subject(other, subject.others, groups, {"s": asked}, tokens_per_batch=64)
    change = whole.answered({})["s"].margin - subject.answered({})["s"].margin
    assert gains.gain[CHANGED] == pytest.approx(change.mean()) and abs(change.mean()) > 0.01
    spread = change.groupby("task").std() / 2
    assert gains.stderr[CHANGED] == pytest.approx(np.sqrt((spread**2).sum()) / 2)


@pytest.mark.parametrize("kind", ["asked", "written"])
def test_first_order_estimates_are_those_of_a_small_change(model, groups, kind, request):
    subject, _ = subject_with(model, groups, request.getfixturevalue(kind), scale=1e-3)
    measured, estimated = (table.set_index("group") for table in (measured_gains(subject), first_order_gains(subject)))
    assert set(estimated.index) == set(groups)
    close = {"rel": 0.02, "abs": 0.02 * measured.stderr[CHANGED]}
    assert estimated.gain[CHANGED] == pytest.approx(measured.gain[CHANGED], **close)
    assert estimated.stderr[CHANGED] == pytest.approx(measured.stderr[CHANGED], rel=0.02)
    assert estimated.gain.drop(CHANGED).abs().max() == 0


@pytest.fixture
def others(model):
    """Weights that differ everywhere, of two checkpoints."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return {
            other: {
                name: weight + scale * weight * torch.randn(weight.shape, generator=generator)
                for name, weight in model.named_parameters()
            }
            for other, scale in (("near", 0.1), ("far", 0.2))
        }


def test_gains_from_kept_activations_are_those_of_whole_passes(model, groups, asked, others, monkeypatch):
    subject = Subject(model, others, groups, {"s": asked, "t": asked[:12]}, tokens_per_batch=64)
    resumed, estimated = measured_gains(subject), first_order_gains(subject)
    monkeypatch.setattr("stratalaw.sensitivities.measuring.can_resume", lambda model: False)
    pd.testing.assert_frame_equal(resumed, measured_gains(subject), check_exact=True)
    assert resumed.gain.abs().min() > 0 and list(resumed.group.unique()) == list(groups)
    assert len(resumed) == len(groups) * 2 * 2
    # Each request as a row by itself, in the order of the trees.
    monkeypatch.setattr(Subject, "shares_prefixes", lambda subject: False)
    rows = first_order_gains(subject)
    both = estimated.merge(rows, on=["group", "variant", "stratum"], validate="one_to_one")
    assert both.gain_x.tolist() == pytest.approx(both.gain_y.tolist(), rel=1e-3, abs=1e-5)
    assert both.stderr_x.tolist() == pytest.approx(both.stderr_y.tolist(), rel=1e-3)


def test_checkpoints_measured_together_gain_what_they_gain_alone(model, groups, asked, others):
    together = [
        measure(Subject(model, others, groups, {"s": asked}, 64)) for measure in (measured_gains, first_order_gains)
    ]
    for other, weights in others.items():
        subject = Subject(model, {other: weights}, groups, {"s": asked}, 64)
        for found, measure in zip(together, (measured_gains, first_order_gains), strict=True):
            own = found[found.variant == other].sort_values("group", ignore_index=True)
            pd.testing.assert_frame_equal(own, measure(subject).sort_values("group", ignore_index=True))


def test_a_placement_has_each_group_from_its_checkpoint(model, groups, asked, others):
    subject = Subject(model, others, groups, {"s": asked}, tokens_per_batch=64)
    placement = dict(zip(groups, ("near", "far"), strict=False))
    mixed = copy.deepcopy(model)
    with torch.no_grad():
        for group, other in placement.items():
            for name in groups[group]:
                mixed.get_parameter(name).copy_(others[other][name])
    expected = Subject(mixed, {}, groups, {"s": asked}, tokens_per_batch=64).answered({})["s"]
    pd.testing.assert_frame_equal(subject.answered(placement)["s"], expected)
    assert (subject.answered({})["s"].margin != expected.margin).all()


def test_first_order_estimates_leave_the_model_as_it_was(model, groups, asked, others):
    before = copy.deepcopy(model.state_dict())
    first_order_gains(Subject(model, others, groups, {"s": asked}, tokens_per_batch=64))
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
