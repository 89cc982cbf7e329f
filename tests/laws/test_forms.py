"""A form's code, derivatives and text come from its one formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratalaw.laws import FORMS, PAPER_LAW, form_named
from stratalaw.laws.forms import FormError, family_code

FACTORS = {
    "N": np.array([0.1, 1.0, 8.0]),
    "B": np.array([3.0, 4.0, 8.0]),
    "E": np.array([3.3, 4.15, 8.2]),
    "G": np.array([32.0, 128.0, 1024.0]),
    "C": np.array([8.0, 128.0, 1024.0]),
    "F": np.array([0.9, 0.4, 0.1]),
}
BY_NAME = {form.name: form for form in FORMS}


def test_the_papers_law_is_what_the_paper_writes():
    scale, alpha, beta, gamma, delta = values = [0.8, -0.36, -1.07, -0.03, 0.07]
    n, b, g, c = (FACTORS[name] for name in "NBGC")
    expected = np.exp(-scale * n**alpha * np.log2(b) ** beta * np.log2(c) ** gamma * g**delta)
    accuracy, _ = PAPER_LAW.evaluate(PAPER_LAW.to_fitted(values), FACTORS)
    np.testing.assert_allclose(accuracy, expected)


@pytest.mark.parametrize("form", FORMS, ids=BY_NAME)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_derivatives_are_those_of_the_accuracy(form, data):
    start = form.starts(1)[0]
    point = start + np.array(data.draw(st.lists(st.floats(-0.3, 0.3), min_size=len(start), max_size=len(start))))
    _, jacobian = form.evaluate(point, FACTORS)
    step = 1e-6
    for i, offset in enumerate(step * np.eye(len(point))):
        above, below = (form.evaluate(point + sign * offset, FACTORS)[0] for sign in (1, -1))
        np.testing.assert_allclose(jacobian[:, i], (above - below) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("form", [form for form in FORMS if form.is_log_linear], ids=lambda form: form.name)
def test_the_regressors_of_a_log_linear_form_give_its_loss(form):
    point = form.starts(3)[-1]
    accuracy, _ = form.evaluate(point, FACTORS)
    np.testing.assert_allclose(form.log_design(FACTORS) @ point, np.log(-np.log(accuracy)))


def test_only_products_are_log_linear():
    assert {name for name, form in BY_NAME.items() if not form.is_log_linear} == {
        *("additive", "sigmoid", "log-group", "exponential", "anchored", "anchored-effective")
    }


@pytest.mark.parametrize("form", FORMS, ids=BY_NAME)
def test_many_problems_at_once_are_each_alone(form):
    points = form.starts(4)
    together, jacobians = form.evaluate(points, FACTORS)
    for point, accuracy, jacobian in zip(points, together, jacobians, strict=True):
        alone = form.evaluate(point, FACTORS)
        np.testing.assert_allclose(accuracy, alone[0])
        np.testing.assert_allclose(jacobian, alone[1])


def test_effects_of_factors_that_do_not_vary_are_left_out():
    reduced = PAPER_LAW.without({"G", "C"})
    assert [p.name for p in reduced.parameters] == ["A", "alpha", "beta"]
    assert reduced.factors == ("N", "B")
    assert form_named("additive").without({"C"}).factors == ("N", "B", "G")


def test_an_anchored_form_is_never_above_the_original():
    form = form_named("anchored")
    assert form.is_anchored and not PAPER_LAW.is_anchored
    for point in form.starts(8):
        assert (form.evaluate(point, FACTORS)[0] <= np.exp(-FACTORS["F"])).all()


def test_families_differ_by_a_multiple_of_the_scale():
    pooled = PAPER_LAW.pooled(["a", "b", "c"])
    codes = {family_code("a"): np.array([1.0, 0, -1]), family_code("b"): np.array([0, 1.0, -1])}
    point = np.append(PAPER_LAW.starts(1)[0], [0.2, -0.5])
    shared, _ = PAPER_LAW.evaluate(point[:-2], FACTORS)
    found, _ = pooled.evaluate(point, FACTORS | codes)
    np.testing.assert_allclose(np.log(found) / np.log(shared), np.exp([0.2, -0.5, 0.3]))
    assert pooled.unpooled() == PAPER_LAW


@pytest.mark.parametrize("form", FORMS, ids=BY_NAME)
def test_natural_values_come_back(form):
    points = form.starts(5)
    np.testing.assert_allclose([form.to_fitted(values) for values in form.to_natural(points)], points)
    assert form.latex.startswith(r"-\ln a = ")


def test_an_unknown_form_is_named():
    with pytest.raises(FormError, match="there is no form cubic; there are paper, "):
        form_named("cubic")
