"""The shipped law is what a fit to the shipped library gives, and its intervals hold for what it has not seen."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.published.heldout import FAMILY, SOURCE, errors, expected_shares, folds, simple_rules
from stratalaw.published.law import Law, fit_law
from stratalaw.published.library import LibraryError, by_stratum
from stratalaw.published.mixed import fit_effects
from stratalaw.published.summary import expected_of_new_models
from stratalaw.published.terms import ROW, SETTING, covariates, design, levels_of, share_kept


def test_the_shipped_law_is_the_fit_to_the_shipped_library(rows, law):
    """``python benchmarks/published.py`` fits it anew."""
    fitted = fit_law(rows, law)
    assert fitted.levels == law.levels and fitted.counts == law.counts
    of_rows = design(rows, law.levels)
    apart = share_kept(of_rows @ fitted.mean) - share_kept(of_rows @ law.mean)
    assert np.abs(apart).max() < 0.02
    shipped, again = expected_of_new_models(law), expected_of_new_models(fitted)
    for name in ("kept", "low", "high"):
        assert np.abs(shipped[name] - again[name]).max() < 0.02
    counted = {name for name, value in law.variances.items() if value > 0.02}
    assert {name for name in counted if abs(np.log(fitted.variances[name] / law.variances[name])) > 0.3} == set()


def test_a_law_is_read_as_it_was_written(law, rows, tmp_path):
    law.write(tmp_path / "laws.json")
    again = Law.read((tmp_path / "laws.json").read_text())
    some = rows.iloc[:50]
    assert np.array_equal(again.log_damage(some, 20), law.log_damage(some, 20))
    with pytest.raises(LibraryError, match="another version"):
        Law.read((tmp_path / "laws.json").read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(LibraryError, match="not a law of published numbers"):
        Law.read("[]")


STANDARDS = {"mmlu": "memorization", "piqa": "application", "arc_challenge": "reasoning"}


def simulated(seed: int = 0) -> tuple[pd.DataFrame, dict[str, float]]:
    """Rows of a known law: families and sources that differ, and settings and rows of their own."""
    random = np.random.default_rng(seed)
    models = [(f"f{i // 3}", f"f{i // 3}-m{i}", 10 ** random.uniform(8.5, 11)) for i in range(36)]
    rows = pd.DataFrame(
        [
            {
                "family": family, "model": model, "n_params": size, "method": "GPTQ", "bits": bits, "group_size": group,
                "calibration": "", "source_id": f"s{i % 8}", "benchmark": benchmark, "stratum": stratum,
            }
            for i, (family, model, size) in enumerate(models)
            for bits in (3.0, 4.0, 8.0)
            for group in (128.0, -1.0)
            for benchmark, stratum in STANDARDS.items()
        ]
    )  # fmt: skip
    rows = covariates(rows)
    true = {"size": -0.3, "bits_above_4": -1.2, "at_3": 1.5, "group": 0.25}
    eta = -3 + sum(value * rows[name] for name, value in true.items())
    for column, spread in (("model", 0.3), ("source_id", 0.3), (SETTING, 0.3)):
        codes = pd.factorize(rows[column])[0]
        eta = eta + (spread * random.standard_normal(codes.max() + 1))[codes]
    noise = np.full(len(rows), 0.02)
    eta = eta + 0.25 * random.standard_normal(len(rows))
    kept = share_kept(eta.to_numpy()) + noise * random.standard_normal(len(rows))
    return rows.assign(kept=kept, noise=noise, item_noise=noise, row=np.arange(1, len(rows) + 1)), true


def test_a_known_law_is_found_again():
    rows, true = simulated()
    fit = fit_effects(rows)
    law = Law.of(fit, rows)
    places = {"size": "size", "bits_above_4": "bits above 4", "at_3": "3 bits"}
    for name, term in places.items():
        [estimate], [error] = fit.mean[fit.places(term)], law.deviation[fit.places(term)]
        assert abs(estimate - true[name]) < 3 * error + 0.1, term
    # Three models a family do not tell well which of the two differs.
    assert fit.variances["model"] + fit.variances["family"] == pytest.approx(0.09, rel=0.5)
    assert fit.variances[SETTING] == pytest.approx(0.09, rel=0.5)
    assert fit.variances[ROW] == pytest.approx(0.0625, rel=0.5)


def test_intervals_hold_for_families_that_were_not_seen():
    rows, _ = simulated(1)
    fit, found = fit_effects(rows, most_steps=12), []
    for _, mask in list(folds(rows, FAMILY))[::4]:
        known = rows[~mask].reset_index(drop=True)
        law = Law.of(fit_effects(known, fit.variances, fixed=True), known)
        found.append(expected_shares(law, rows[mask].reset_index(drop=True), draws=300))
    expected = pd.concat(found)
    assert 0.85 <= expected.kept.between(expected.low, expected.high).mean() <= 0.999


def test_effects_of_what_is_unknown_are_drawn(law, rows):
    row = rows[(rows.model == "Qwen/Qwen3-8B") & (rows.bits == 4)].iloc[:1]
    new = row.assign(model="new", family="new", source_id="new", setting="new")
    known, unknown = (law.log_damage(part, 2000).std() for part in (row, new))
    assert unknown > 1.2 * known
    assert design(new, law.levels).nnz < design(row, levels_of(rows)).nnz


def test_the_simple_rules_are_those_of_other_families():
    table = pd.DataFrame(
        {
            "family": ["a", "b", "b", "c"], "source_id": ["s", "s", "t", "t"], "method": "GPTQ", "bits": 4.0,
            "stratum": "reasoning", "n_params": [1e9, 1e9, 2e9, 8e9], "kept": [0.5, 0.8, 0.9, 1.0], "noise": 0.01,
        }
    )  # fmt: skip
    ruled = simple_rules(table)
    assert ruled.width.tolist() == [0.9, 0.75, 0.75, 0.8]
    assert simple_rules(table, SOURCE).width.tolist() == pytest.approx([0.95, 0.95, 0.65, 0.65])
    scored = errors(ruled.assign(model=ruled.family, median=0.75, low=0.6, high=1.1))
    assert scored.law.tolist() == pytest.approx([17.5]) and scored.coverage.tolist() == [75]


def test_rows_are_shares_of_strata(rows):
    shares = by_stratum(rows)
    assert set(shares.stratum) == {"memorization", "application", "reasoning"} and shares.bits.min() == 3
