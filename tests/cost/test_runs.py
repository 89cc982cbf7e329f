"""What was run corrects what is predicted: totals come out right, and models that were not run follow their stage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalaw.cost.runs import PRIOR_JOBS, corrections

STAGE = "checkpoints"


def jobs(model: str, seconds: list[float]) -> dict[tuple[str, str, str], float]:
    return {(STAGE, model, f"v{i}"): value for i, value in enumerate(seconds)}


@given(st.floats(0.01, 100), st.integers(1, 20))
def test_a_slower_machine_is_slower_everywhere(slowness, measured):
    predicted = jobs("small", [1.0] * 20) | jobs("large", [30.0] * 20)
    run = {key: slowness * value for key, value in list(predicted.items())[:measured]}
    assert corrections(predicted, run) == pytest.approx({(STAGE, "small"): slowness, (STAGE, "large"): slowness})


def test_what_was_not_run_keeps_what_is_predicted():
    predicted = jobs("m", [1.0]) | {("answers", "m", "v0"): 4.0}
    found = corrections(predicted, {("answers", "m", "v0"): 8.0})
    assert found == {(STAGE, "m"): 1.0, ("answers", "m"): 2.0}


def test_a_model_of_its_own_pace_is_followed_the_more_the_more_of_it_was_run():
    predicted = jobs("usual", [1.0] * 200) | jobs("slow", [1.0] * 200)

    def factor_of_slow(measured: int) -> float:
        run = jobs("usual", [1.0] * 200) | jobs("slow", [3.0] * measured)
        return corrections(predicted, run)[STAGE, "slow"]

    factors = [factor_of_slow(measured) for measured in (0, 1, PRIOR_JOBS, 200)]
    assert factors == sorted(factors)
    assert factors[0] == pytest.approx(1) and factors[-1] == pytest.approx(3, rel=0.02)


@given(st.integers(0, 1000))
def test_the_total_of_noisy_jobs_is_predicted_from_a_third_of_them(seed):
    rng = np.random.default_rng(seed)
    predicted = jobs("a", [1.0] * 150) | jobs("b", [5.0] * 150)
    true = {key: 2 * value * rng.lognormal(0, 0.5) for key, value in predicted.items()}
    run = {key: true[key] for key in list(true)[::3]}
    factors = corrections(predicted, run)
    total = sum(run.get(key, value * factors[key[0], key[1]]) for key, value in predicted.items())
    assert total == pytest.approx(sum(true.values()), rel=0.3)
