"""The paper's claims as margins: numbers, one for each model, that are positive where a claim holds.

A claim with several margins holds where all of them are positive. Effects of a factor in points are taken within a
model, at the same bits and the same value of the other factor, so that a design that confounds them has no such effect
to show, and the claim is not testable. Where a claim says "near" or "saturates", the thresholds are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.exponents import (
    DAMAGE,
    Panel,
    confounded_models,
    exponents_of_models,
    levels_of_models,
    original,
)
from stratalaw.laws.table import GENERAL, UTILIZATION

MEMORIZATION, APPLICATION, REASONING = "memorization", "application", "reasoning"
STRATA = (MEMORIZATION, APPLICATION, REASONING)
NEAR_CHANCE, SATURATED = 0.25, 0.9  # of the original's adjusted accuracy
HIGH_BITS = 8  # at which nothing is left to gain


class NotTestable(Exception):
    """Why a table cannot test a claim, in words."""


@dataclass(frozen=True)
class Margin:
    """One number for each model in each draw, shape (draws, models).

    ``over_size``: what counts is not its mean but its slope over ln N.
    """

    name: str
    values: NDArray[np.float64]
    over_size: bool = False


@dataclass(frozen=True)
class Claim:
    """``margins(panel)``: raises NotTestable; ``unit``: of the margins; ``negligible``: a margin that is smaller than
    this, either way, is no difference that matters."""

    name: str
    text: str
    unit: str
    negligible: float
    margins: Callable[[Panel], list[Margin]]


def overall(panel: Panel) -> str:
    """The composite, or the only stratum."""
    return GENERAL if GENERAL in panel.tables else next(iter(panel.tables))


def _told(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which models have a value in any draw, of shape (draws, models)."""
    told = np.isfinite(values).any(axis=0)
    return np.asarray(told)


def _exponent(panel: Panel, stratum: str, name: str) -> NDArray[np.float64]:
    if stratum not in panel.tables:
        raise NotTestable(f"the table has no stratum {stratum}")
    found = exponents_of_models(panel, stratum, DAMAGE)[name]
    if _told(found).sum() < 2:
        factor = {"c": "bits", "gamma": "calibration size", "delta": "group size"}[name]
        varying, alone = confounded_models(panel, stratum, name)
        if varying > 1 and alone < 2:
            raise NotTestable(
                f"the design confounds {factor} with the other factors: fewer than two models vary it with all else "
                "the same"
            )
        raise NotTestable(f"fewer than two models tell the effect of {factor} in {stratum}")
    return found


def _level(panel: Panel, stratum: str) -> NDArray[np.float64]:
    if stratum not in panel.tables:
        raise NotTestable(f"the table has no stratum {stratum}")
    found = levels_of_models(panel, stratum)
    models = panel.models
    spare = _told(found).sum() - models.family.nunique() - 1
    if spare < 1:
        raise NotTestable(f"too few sizes with settings in common in {stratum}")
    return found


def most(exponent: str, stratum: str, sign: int) -> Callable[[Panel], list[Margin]]:
    """By how much the damage exponent of a stratum exceeds (sign 1) or falls below (-1) that of each other stratum."""

    def margins(panel: Panel) -> list[Margin]:
        own = sign * _exponent(panel, stratum, exponent)
        others = [name for name in STRATA if name != stratum]
        return [Margin(f"{stratum} - {name}", own - sign * _exponent(panel, name, exponent)) for name in others]

    return margins


def application_depends_most_on_size(panel: Panel) -> list[Margin]:
    """By how much the loss of application falls faster with size (the paper's alpha) than that of the others."""
    own = _level(panel, APPLICATION)
    others = [name for name in STRATA if name != APPLICATION]
    return [Margin(f"{name} - {APPLICATION}", _level(panel, name) - own, over_size=True) for name in others]


def falls_with_group_size(panel: Panel) -> list[Margin]:
    return [Margin("delta", _exponent(panel, overall(panel), "delta"))]


def memorization_is_most_sensitive(panel: Panel) -> list[Margin]:
    """The first version's claim: against application and reasoning pooled, on every factor that varies."""
    if UTILIZATION not in panel.tables:
        raise NotTestable("the table lacks application or reasoning")
    found = []
    for name, sign in {"c": 1, "gamma": -1, "delta": 1}.items():
        try:
            values = sign * (_exponent(panel, MEMORIZATION, name) - _exponent(panel, UTILIZATION, name))
        except NotTestable:
            continue  # a factor that does not vary
        found.append(Margin(name, values))
    level = _level(panel, UTILIZATION) - _level(panel, MEMORIZATION)
    return [*found, Margin("alpha", level, over_size=True)]


def steeper_at_low_bits(factor: str, other: str, sign: int) -> Callable[[Panel], list[Margin]]:
    """By how much an effect (points per doubling) is larger at the lowest bits than at the highest that show it."""

    def margins(panel: Panel) -> list[Margin]:
        table = panel.tables[overall(panel)]
        slopes = {}
        for bits in sorted(width for width in table.bits.unique() if 2 < width < 16):
            found = _slopes(panel, factor, ["calibration_seed", other], bits)
            if _told(found).sum() > 1:
                slopes[bits] = sign * found
        if len(slopes) < 2:
            raise NotTestable(f"fewer than two bit-widths vary the {factor.replace('_', ' ')} with all else the same")
        lowest, highest = slopes[min(slopes)], slopes[max(slopes)]
        return [Margin(f"{min(slopes):g} - {max(slopes):g} bits", 100 * (lowest - highest))]

    return margins


def _slopes(panel: Panel, factor: str, within: Sequence[str], bits: float) -> NDArray[np.float64]:
    """Adjusted accuracy per doubling of a factor at some bits, all else the same, shape (draws, models)."""
    stratum, models = overall(panel), panel.models.model
    found = np.full((panel.draws, len(models)), np.nan)
    for place, model in enumerate(models):
        table, accuracy = panel.rows_of(stratum, str(model))
        chosen = ((table.bits == bits) & (table[factor] > 0)).to_numpy()
        if not chosen.any():
            continue
        cells = table[chosen].groupby(list(within), dropna=False, sort=False).ngroup().to_numpy()
        x, y = np.log2(table[factor].to_numpy(float)[chosen]), accuracy[:, chosen]
        count = np.bincount(cells)
        x = x - (np.bincount(cells, weights=x) / count)[cells]
        if (x**2).sum() > 1e-9:
            found[:, place] = y @ x / (x**2).sum()
    return found


def two_bits_are_a_phase(panel: Panel) -> list[Margin]:
    """Near chance at 2 bits, most of the recovery from 2 to 3, saturated at 4, at settings that all three have."""
    stratum, models = overall(panel), panel.models.model
    values = np.full((3, panel.draws, len(models)), np.nan)
    for place, model in enumerate(models):
        table, accuracy = panel.rows_of(stratum, str(model))
        before = original(table, accuracy)
        settings = table[["group_size", "calibration_size", "calibration_seed"]].astype(float).fillna(-1)
        keys = pd.Series(list(settings.itertuples(index=False, name=None)))
        bits = table.bits.to_numpy()
        common = set.intersection(*(set(keys[bits == width]) for width in (2, 3, 4)))
        if not common or not np.isfinite(before).all():
            continue
        shared = keys.isin(list(common)).to_numpy()
        two, three, four = (accuracy[:, shared & (bits == width)].mean(1) for width in (2, 3, 4))
        values[:, :, place] = (
            NEAR_CHANCE * before - two,
            (three - two) - (four - three),
            four - SATURATED * before,
        )
    if _told(values[0]).sum() < 2:
        raise NotTestable("fewer than two models have their original and the same settings at 2, 3 and 4 bits")
    names = ("2 bits near chance", "recovery from 2 to 3 bits", "4 bits saturated")
    return [Margin(name, 100 * part) for name, part in zip(names, values, strict=True)]


def returns_diminish(panel: Panel) -> list[Margin]:
    """Gain per doubling between the two smallest calibration sizes minus that between the two largest, all else the
    same, below 8 bits."""
    stratum, models = overall(panel), panel.models.model
    table = panel.tables[stratum]
    low = (table.bits > 2) & (table.bits < HIGH_BITS)
    sizes = np.sort(table.calibration_size[low].dropna().unique())
    if len(sizes) < 3:
        raise NotTestable("fewer than three calibration sizes below 8 bits")
    weights = _contrast(sizes)
    found = np.full((panel.draws, len(models)), np.nan)
    for place, model in enumerate(models):
        rows, accuracy = panel.rows_of(stratum, str(model))
        chosen = ((rows.bits > 2) & (rows.bits < HIGH_BITS) & rows.calibration_size.isin(list(weights))).to_numpy()
        if not chosen.any():
            continue
        part = rows[chosen]
        cells = part.groupby(["bits", "group_size", "calibration_seed"], dropna=False).calibration_size
        whole = (cells.transform("nunique") == len(weights)).to_numpy()
        if whole.any():
            w = part.calibration_size.map(weights).to_numpy(float)[whole]
            found[:, place] = accuracy[:, chosen][:, whole] @ w / (whole.sum() / len(weights))
    if _told(found).sum() < 2:
        raise NotTestable(
            "fewer than two models have the smallest and the largest calibration sizes, all else the same"
        )
    return [Margin("first - last doubling", 100 * found)]


def _contrast(sizes: NDArray[np.float64]) -> dict[float, float]:
    """Weight of the accuracy at each size: of the first gain per doubling minus the last."""
    weights = dict.fromkeys(map(float, (*sizes[:2], *sizes[-2:])), 0.0)
    for sign, (low, high) in ((1, sizes[:2]), (-1, sizes[-2:])):
        doublings = np.log2(high / low)
        weights[float(high)] += sign / doublings
        weights[float(low)] -= sign / doublings
    return weights


def strata_differ(panel: Panel) -> list[Margin]:
    """Differences of every exponent between the first stratum and each other one."""
    present = [name for name in STRATA if name in panel.tables]
    if len(present) < 2:
        raise NotTestable("fewer than two of the paper's strata")
    found = []
    for other in present[1:]:
        for name in ("c", "gamma", "delta"):
            try:
                values = _exponent(panel, present[0], name) - _exponent(panel, other, name)
            except NotTestable:
                continue  # a factor that does not vary
            found.append(Margin(f"{name}: {present[0]} - {other}", values))
    if not found:
        raise NotTestable("no factor varies within two models")
    return found


CLAIMS = (
    Claim("bits", "reasoning depends most on bits (largest c)", "c", 0.25, most("c", REASONING, 1)),
    Claim("size", "application depends most on size (lowest α)", "α", 0.1, application_depends_most_on_size),
    Claim(
        "calibration",
        "memorization depends most on calibration (lowest γ)",
        "γ",
        0.05,
        most("gamma", MEMORIZATION, -1),
    ),
    Claim("group", "accuracy falls with group size (δ > 0)", "δ", 0.1, falls_with_group_size),
    Claim(
        "group-low-bits",
        "group size matters more at low bits",
        "points per doubling",
        0.5,
        steeper_at_low_bits("group_size", "calibration_size", -1),
    ),
    Claim(
        "calibration-low-bits",
        "calibration size matters more at low bits",
        "points per doubling",
        0.5,
        steeper_at_low_bits("calibration_size", "group_size", 1),
    ),
    Claim("phase", "2 bits are a phase of their own", "points", 2.0, two_bits_are_a_phase),
    Claim("diminishing", "returns of the calibration size diminish", "points per doubling", 0.5, returns_diminish),
    Claim(
        "first-version",
        "memorization depends more than utilization on every factor (first version)",
        "smallest margin of an exponent",
        0.1,
        memorization_is_most_sensitive,
    ),
)
STRATA_DIFFER = Claim(
    "differ", "the exponents of the strata differ at all", "largest difference of an exponent", 0.1, strata_differ
)
