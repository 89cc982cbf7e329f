"""The paper's claims as hypotheses, each with a number and a verdict.

A claim is a statistic that is positive where it holds. The bootstrap (models and item noise together) gives its
standard error, and Student's t with as many degrees of freedom as models less one says how sure its sign is: shares of
resamples do not, since a handful of models that agree by chance agree in every resample. A claim is supported or
contradicted at a level of .05 over the number of claims (Bonferroni), and otherwise not decidable at this noise. The
smallest effect is what this study would have found with 80 % power. Where a claim says "near" or "saturates", the
thresholds are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

MEMORIZATION, APPLICATION, REASONING = "memorization", "application", "reasoning"
UTILIZATION = "utilization"  # application and reasoning pooled, as in the paper's first version
LEVEL, POWER = 0.05, 0.8
MIN_MODELS = 5
NEAR_CHANCE, SATURATED = 0.25, 0.9  # of the baseline's adjusted accuracy
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decidable"


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws that the claims are read from.

    ``exponents``: by stratum, columns alpha, beta, gamma, delta (those that could be fitted), one row for each
    resample; ``table``: accuracies in general of every variant, baselines included; ``weights`` (resamples, rows of the
    table) and ``accuracy`` (resamples, rows of the table): adjusted accuracies with item noise.
    """

    exponents: Mapping[str, pd.DataFrame]
    table: pd.DataFrame
    weights: np.ndarray
    accuracy: np.ndarray

    @property
    def models(self) -> int:
        """How many models are drawn from."""
        return self.table.model.nunique()

    def standard_error(self, values: np.ndarray) -> float:
        """Of a statistic, from its values in the resamples, which spread as if there were one model less."""
        return float(values.std() * np.sqrt(self.models / max(self.models - 1, 1)))

    def mean(self, chosen: np.ndarray) -> np.ndarray:
        """Mean adjusted accuracy of the chosen rows in each resample; NaN where none was drawn."""
        weights = self.weights[:, chosen]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights * self.accuracy[:, chosen]).sum(1) / weights.sum(1)


@dataclass(frozen=True)
class Claim:
    """``statistic(draws)``: one number for each resample, positive where the claim holds; None where the study cannot
    speak to it. ``unit``: of the statistic."""

    name: str
    text: str
    unit: str
    statistic: Callable[[Draws], np.ndarray | None]


def most(exponent: str, stratum: str, sign: int) -> Callable[[Draws], np.ndarray | None]:
    """By how much a stratum's exponent exceeds (sign 1) or falls below (-1) those of all other strata."""

    def statistic(draws: Draws) -> np.ndarray | None:
        others = [name for name in (MEMORIZATION, APPLICATION, REASONING) if name != stratum]
        if not all(exponent in draws.exponents.get(name, ()) for name in (stratum, *others)):
            return None
        own = sign * draws.exponents[stratum][exponent]
        return (own - np.max([sign * draws.exponents[name][exponent] for name in others], axis=0)).to_numpy()

    return statistic


def memorization_is_most_sensitive(draws: Draws) -> np.ndarray | None:
    """The first version's claim: the smallest margin over all exponents that were fitted."""
    if not {MEMORIZATION, UTILIZATION} <= set(draws.exponents):
        return None
    memorization, utilization = draws.exponents[MEMORIZATION], draws.exponents[UTILIZATION]
    signs = {"alpha": -1, "beta": -1, "gamma": -1, "delta": 1}
    fitted = [name for name in signs if name in memorization and name in utilization]
    margins = [signs[name] * (memorization[name] - utilization[name]) for name in fitted]
    return np.min(margins, axis=0) if margins else None


def falls_with_group_size(draws: Draws) -> np.ndarray | None:
    overall = draws.exponents.get("general", next(iter(draws.exponents.values()), pd.DataFrame()))
    return overall["delta"].to_numpy() if "delta" in overall else None


def steeper_at_low_bits(factor: str, sign: int) -> Callable[[Draws], np.ndarray | None]:
    """By how much an effect (points per doubling) is larger at the lowest fitted bits than at the highest."""

    def statistic(draws: Draws) -> np.ndarray | None:
        table = draws.table
        bits = sorted(b for b in table.bits.unique() if 2 < b < 16 and table[table.bits == b][factor].nunique() > 1)
        if len(bits) < 2:
            return None
        lowest, highest = (sign * _slope(draws, factor, (table.bits == b).to_numpy()) for b in (bits[0], bits[-1]))
        return 100 * (lowest - highest)

    return statistic


def _slope(draws: Draws, factor: str, chosen: np.ndarray) -> np.ndarray:
    """Adjusted accuracy per doubling of a factor in each resample, within models."""
    x = np.log2(draws.table[factor].to_numpy(float)[chosen])
    models = draws.table.model.to_numpy()[chosen]
    weights, y = draws.weights[:, chosen], draws.accuracy[:, chosen]
    covariance = variance = 0
    for model in np.unique(models):
        own = models == model
        w = weights[:, own]
        total = np.maximum(w.sum(1, keepdims=True), 1e-300)
        centred = x[own] - (w * x[own]).sum(1, keepdims=True) / total
        covariance = covariance + (w * centred * y[:, own]).sum(1)
        variance = variance + (w * centred**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / variance


def two_bits_are_a_phase(draws: Draws) -> np.ndarray | None:
    """Near chance at 2 bits, most of the recovery from 2 to 3, saturated at 4: the smallest of the three margins."""
    bits = draws.table.bits.to_numpy()
    if not {2, 3, 4} <= set(bits) or not (bits >= 16).any():
        return None
    two, three, four, baseline = (draws.mean(chosen) for chosen in (bits == 2, bits == 3, bits == 4, bits >= 16))
    margins = [NEAR_CHANCE * baseline - two, (three - two) - (four - three), four - SATURATED * baseline]
    return 100 * np.min(margins, axis=0)


def returns_diminish(draws: Draws) -> np.ndarray | None:
    """Gain per doubling between the two smallest calibration sizes minus that between the two largest, below 8 bits."""
    table = draws.table
    low = ((table.bits > 2) & (table.bits < 8)).to_numpy()
    sizes = np.sort(table.calibration_size[low].dropna().unique())
    if len(sizes) < 3:
        return None

    def gain(first: float, second: float) -> np.ndarray:
        means = [draws.mean(low & (table.calibration_size == size).to_numpy()) for size in (first, second)]
        return (means[1] - means[0]) / np.log2(second / first)

    return 100 * (gain(*sizes[:2]) - gain(*sizes[-2:]))


CLAIMS = (
    Claim("bits", "reasoning depends most on bits (lowest β)", "β", most("beta", REASONING, -1)),
    Claim("size", "application depends most on size (lowest α)", "α", most("alpha", APPLICATION, -1)),
    Claim(
        "calibration",
        "memorization depends most on calibration (lowest γ)",
        "γ",
        most("gamma", MEMORIZATION, -1),
    ),
    Claim("group", "accuracy falls with group size (δ > 0)", "δ", falls_with_group_size),
    Claim(
        "group-low-bits",
        "group size matters more at low bits",
        "points per doubling",
        steeper_at_low_bits("group_size", -1),
    ),
    Claim(
        "calibration-low-bits",
        "calibration size matters more at low bits",
        "points per doubling",
        steeper_at_low_bits("calibration_size", 1),
    ),
    Claim(
        "phase",
        "2 bits are a phase of their own",
        "points",
        two_bits_are_a_phase,
    ),
    Claim("diminishing", "returns of the calibration size diminish", "points per doubling", returns_diminish),
    Claim(
        "first-version",
        "memorization depends more than utilization on every factor (first version)",
        "smallest margin of an exponent",
        memorization_is_most_sensitive,
    ),
)
STRATA_DIFFER = "the exponents of the strata differ at all"
HOW_JUDGED = (
    "The paper's claims as hypotheses. ``probability``: one minus the one-sided p-value of the claim, by Student's t "
    "with one degree of freedom fewer than models, on the standard error of a bootstrap over models and items; of "
    f"“{STRATA_DIFFER}” one minus the p-value of Hotelling's test. A claim is ``supported`` or ``contradicted`` at a "
    f"two-sided level of {LEVEL:g} divided by the number of claims ({len(CLAIMS) + 1}), otherwise ``not decidable``; "
    f"with fewer than {MIN_MODELS} models nothing is decided. ``estimate``, ``low`` and ``high``: median and 95 % of "
    f"the resamples. ``smallest_effect``: what this study would have found with {POWER:.0%} power. 2 bits are a phase "
    f"of their own where the adjusted accuracy at 2 bits is below {NEAR_CHANCE:g} of the baseline's, more is recovered "
    f"from 2 to 3 bits than from 3 to 4, and 4 bits keep at least {SATURATED:g} of it."
)


def judge(draws: Draws) -> pd.DataFrame:
    """The verdict on each claim.

    Columns: claim, text, verdict, probability (that it holds: one minus the one-sided p-value, or the p-value of the
    joint test), estimate (median), low and high (95 % of the resamples), smallest_effect, unit. A claim to which the
    study cannot speak is not decidable, and its numbers are missing. With fewer than five models nothing is decidable:
    resampling so few says little of models that were not studied.
    """
    n_claims = len(CLAIMS) + 1
    records = [_judge_claim(claim, draws, n_claims) for claim in CLAIMS]
    judged = pd.DataFrame([*records, _strata_differ(draws, n_claims)])
    if draws.models < MIN_MODELS:
        judged["verdict"] = UNDECIDED
    return judged


def _judge_claim(claim: Claim, draws: Draws, n_claims: int) -> dict:
    record = {"claim": claim.name, "text": claim.text, "verdict": UNDECIDED, "unit": claim.unit}
    values = claim.statistic(draws)
    if values is None or not np.isfinite(values).any():
        return record
    values = values[np.isfinite(values)]
    tail = LEVEL / 2 / n_claims
    low, estimate, high = np.percentile(values, [2.5, 50, 97.5])
    student, error = stats.t(max(draws.models - 1, 1)), draws.standard_error(values)
    probability = float(student.cdf(estimate / error)) if error > 0 else float(estimate > 0)
    if probability >= 1 - tail:
        record["verdict"] = SUPPORTED
    elif probability <= tail:
        record["verdict"] = CONTRADICTED
    detectable = (student.ppf(1 - tail) + student.ppf(POWER)) * error
    return record | {
        "probability": probability,
        "estimate": float(estimate),
        "low": float(low),
        "high": float(high),
        "smallest_effect": float(detectable),
    }


def _strata_differ(draws: Draws, n_claims: int) -> dict:
    """Hotelling's test of equal exponents, with the bootstrap's covariance; it needs more models than differences."""
    record = {"claim": "differ", "text": STRATA_DIFFER, "verdict": UNDECIDED, "unit": "joint test"}
    strata = [draws.exponents[name] for name in (MEMORIZATION, APPLICATION, REASONING) if name in draws.exponents]
    if len(strata) < 2:
        return record
    differences = np.concatenate([(part - strata[0]).to_numpy() for part in strata[1:]], axis=1)
    differences = differences[np.isfinite(differences).all(1)]
    if len(differences) <= differences.shape[1]:
        return record
    freedom, rank = draws.models - 1, differences.shape[1]
    if freedom < rank:
        return record
    mean, covariance = differences.mean(0), np.atleast_2d(np.cov(differences.T)) * draws.models / freedom
    squared_distance = mean @ np.linalg.pinv(covariance) @ mean
    p_value = float(stats.f.sf(squared_distance * (freedom - rank + 1) / (freedom * rank), rank, freedom - rank + 1))
    verdict = SUPPORTED if p_value < LEVEL / n_claims else UNDECIDED
    return record | {"verdict": verdict, "probability": 1 - p_value}
