"""One step of a study that is measured bit by bit: what is believed, whether that is enough, and what comes next."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stratalaw.planning.belief import Array, Belief
from stratalaw.planning.sequence import Batch, next_batch
from stratalaw.planning.wishes import PROBABILITY, UNITS, Wish, WishError
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME

FEWEST_OF_A_MODEL = 2  # of the first batch, on average
FOR_A_DECISION = 6  # variants of a batch: which of them still matter follows from what comes out
REACHED, SPENT, COMPLETE = "reached", "budget spent", "everything is measured"
Name = tuple[str, str]


@dataclass(frozen=True)
class Goal:
    """When to stop.

    ``wish``: what is to be known; ``precision``: half the width of every 95 % interval of it (accuracies as shares), or
    of a decision the probability that the whole study would take the same one; ``seconds``: budget of the whole, what
    was measured before included; ``most``: variants of a batch, by default as many as were measured already, and for a
    decision ``FOR_A_DECISION``.
    """

    wish: Wish
    precision: float | None = None
    seconds: float = np.inf
    most: int | None = None


@dataclass(frozen=True)
class Step:
    """``variants``: to measure next, by model and name, those that tell most for their cost first; ``ended``: why there
    are none; ``seconds``: what they cost, and ``spent`` what was spent before; ``before`` and ``after``: half widths of
    the 95 % intervals of what is asked."""

    variants: list[Name]
    ended: str
    seconds: float
    spent: float
    before: Array
    after: Array
    belief: Belief
    answer: str


def precision_of(text: str, wish: Wish) -> float:
    """A precision such as ``±2`` (points), ``±0.05`` (of an exponent) or ``95%`` (of a decision).

    Raises:
        WishError: it is none, or not one of what is asked.
    """
    number = text.strip().removeprefix("±").removeprefix("+-").strip()
    is_probability = number.endswith("%")
    try:
        value = float(number.removesuffix("%"))
    except ValueError:
        value = float("nan")
    if is_probability != (wish.unit == PROBABILITY) or not value > 0 or (is_probability and value > 100):
        wanted = "a probability such as 95%" if wish.unit == PROBABILITY else "half a width such as ±2"
        raise WishError(f"--until {text!r}: for {wish.text!r} it is {wanted} ({wish.unit})")
    return value if wish.unit == UNITS else value / 100


def next_step(
    study: Study,
    observations: pd.DataFrame | None,
    tried: Collection[Name],
    sizes: Mapping[str, float],
    seconds: Mapping[Name, float],
    goal: Goal,
) -> Step:
    """What to measure next of a study.

    Args:
        study: the whole of it.
        observations: of what was measured; None if nothing was.
        tried: variants that were measured, or cannot be.
        sizes: parameters of each model.
        seconds: what each variant takes, originals included.
        goal: when to stop.

    Raises:
        WishError: the study cannot tell what is asked.
    """
    belief = Belief.of(study, observations, sizes, tried, goal.wish.wanted)
    spent = sum(seconds[name] for name in tried)
    names = list(zip(belief.variants.model, belief.variants.variant, strict=True))
    targets = goal.wish.targets(belief)
    widths = targets.half_widths(belief.quantile)
    originals = [(model, BASELINE_NAME) for model in goal.wish.models(belief) if model in belief.missing]
    # A variant tells nothing without its original.
    others = {(model, BASELINE_NAME) for model in belief.missing} - {*originals}
    beside = {model: seconds[model, BASELINE_NAME] for model, _ in others}
    cost = np.array([np.inf if name in tried else seconds[name] + beside.get(name[0], 0.0) for name in names])
    sureness = goal.wish.sureness(belief)
    is_enough = goal.precision is not None and (
        sureness >= goal.precision if sureness is not None else bool((widths <= goal.precision).all())
    )
    left = goal.seconds - spent
    batch = Batch([], widths, widths)
    ended = REACHED if is_enough and not originals else ""
    if not ended:
        first = sum(seconds[name] for name in originals)
        quantized = sum(variant != BASELINE_NAME for _, variant in tried)
        enough = max(quantized, FEWEST_OF_A_MODEL * len(sizes)) if sureness is None else FOR_A_DECISION
        narrow = goal.precision if sureness is None else None
        batch = next_batch(belief, targets, cost, left - first, narrow, goal.most or enough)
        if first > left:
            originals = []
        if not (originals or batch.variants):
            ended = SPENT if np.isfinite(cost).any() and np.isfinite(left) else COMPLETE
    chosen = [names[place] for place in batch.variants]
    originals += sorted(others & {(model, BASELINE_NAME) for model, _ in chosen})
    total = sum(seconds[name] for name in (*originals, *chosen))
    return Step(
        [*originals, *chosen],
        ended,
        total,
        spent,
        batch.before,
        batch.after,
        belief,
        goal.wish.answer(belief) if not belief.missing else "",
    )
