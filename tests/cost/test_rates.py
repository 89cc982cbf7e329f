"""Rates are found again from seconds that they made, and what was measured is met."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratalaw.cost.rates import CPU, OURS, REFERENCE, TERMS, RatesError, design, fit, measured_rates, rates_of, ratio
from stratalaw.cost.workload import work_of
from stratalaw.layout import Results
from stratalaw.models.known_shapes import shapes_of_study
from stratalaw.models.shapes import Shapes
from stratalaw.study import read_study

AMOUNTS = (
    *("n_params", "n_quantized", "n_layers", "hidden_size"),
    *("calibration_tokens", "anew_tokens", "tokens", "steps", "requests"),
)


def points(n: int, seed: int = 0) -> pd.DataFrame:
    """Amounts over three orders of magnitude."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: 10 ** rng.uniform(2, 5, n) for name in AMOUNTS})


@settings(deadline=None)  # scipy is imported at the first
@given(st.sampled_from(sorted(TERMS)), st.integers(0, 100))
def test_known_coefficients_are_recovered(part, seed):
    rows = points(40, seed)
    terms = design(part, rows)
    # Every term matters somewhere.
    true = np.random.default_rng(seed).uniform(0.5, 2, terms.shape[1]) / np.median(terms, axis=0)
    found = fit(part, rows.assign(seconds=terms @ true))
    np.testing.assert_allclose(found, true, rtol=1e-6)


def test_points_that_are_alike_are_taken_to_scale():
    alike = pd.concat([points(1)] * 2).assign(seconds=8.0)
    fixed, for_a_parameter = fit("load", alike)
    assert fixed == 0 and for_a_parameter == pytest.approx(8 / alike.n_params.iloc[0])


def test_a_ratio_to_known_coefficients_is_recovered():
    rows, coefficients = points(3), np.array([1.0, 1e-3])
    slower = rows.assign(seconds=2.5 * (design("load", rows) @ coefficients))
    assert ratio("load", slower, coefficients) == pytest.approx(2.5)
    assert ratio("load", slower[:0], coefficients) == 1


@pytest.mark.parametrize("device", sorted(set(measured_rates().device)))
@pytest.mark.parametrize("way", [OURS, REFERENCE])
def test_measured_points_are_met(device, way):
    """Within a factor of 3 each (the first use of a kernel compiles it), and within 30 % on average."""
    table, rates = measured_rates(), rates_of(device)
    rows = table[(table.device == device) & (table.toolchain == way) & (table.seconds > 0.5)]
    errors = [
        np.log(rates.seconds(row.part, way, **{name: getattr(row, name) for name in AMOUNTS}) / row.seconds)
        for row in rows.itertuples()
    ]
    if errors:
        assert np.abs(errors).max() < np.log(3)
        assert np.abs(errors).mean() < np.log(1.3)


def test_a_device_goes_by_a_part_of_its_name():
    first = measured_rates().device.iloc[0]
    assert rates_of().device == rates_of(first.split()[-1].lower()).device == first
    assert rates_of("CPU").device == CPU
    with pytest.raises(RatesError, match=rf"^no rates were measured on abacus; there are those of {first}, .*cpu$"):
        rates_of("abacus")


def test_every_part_of_a_gpu_and_of_the_cpu_was_measured():
    table = measured_rates()
    on_gpu = set(table[table.device == rates_of().device].part)
    on_cpu = set(table[table.device == CPU].part)
    assert on_gpu | on_cpu == set(TERMS)
    assert {"start", "quantize", "load", "log_likelihoods", "generate"} <= on_gpu


def test_repeated_points_of_the_plain_way_are_no_more_points():
    """It was measured at fewer points than there are terms: at others, it takes ours times the ratio at those."""
    rates = rates_of()

    def times_ours(**amounts: float) -> float:
        return rates.seconds("quantize", REFERENCE, **amounts) / rates.seconds("quantize", **amounts)

    small = {"n_layers": 30, "n_quantized": 1e8, "calibration_tokens": 1e4, "anew_tokens": 1e4}
    large = {"n_layers": 60, "n_quantized": 3e10, "calibration_tokens": 2e6, "anew_tokens": 2e6}
    assert times_ours(**small) == pytest.approx(times_ours(**large))


def test_only_the_plain_way_writes_requests_where_the_device_waits():
    study = read_study(Path("config/config.yaml"))
    shapes, asked = next(iter(shapes_of_study(study, "", Results(Path("none"))).values())), work_of(study.evaluation)
    more = replace(asked, text_tokens=2 * asked.text_tokens)
    ours, plain = ([rates_of().answers(shapes, work, way) for work in (asked, more)] for way in (OURS, REFERENCE))
    assert ours[0] == ours[1] and plain[0] < plain[1]


def test_passes_are_faster_where_a_gpu_keeps_activations():
    """Seconds of more calibration tokens, for each of them: more where they do not fit; the plain way keeps none."""
    small, *_, large = shapes_of_study(read_study(Path("config/config.yaml")), "", Results(Path("none"))).values()
    few, many = 128 * 2048, 1024 * 2048

    def per_token(way: str, shapes: Shapes) -> float:
        seconds = [rates_of().quantization(shapes, tokens, way) for tokens in (few, many)]
        return (seconds[1] - seconds[0]) / (many - few) / shapes.n_quantized

    assert per_token(OURS, large) > 1.3 * per_token(OURS, small)
    assert per_token(REFERENCE, large) == pytest.approx(per_token(REFERENCE, small))
