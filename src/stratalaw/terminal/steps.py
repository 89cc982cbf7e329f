"""The next step of a study in a few lines, which go beside the targets."""

from __future__ import annotations

from collections import Counter

import numpy as np

from stratalaw.planning.belief import Array
from stratalaw.planning.steps import REACHED, Goal, Step
from stratalaw.planning.wishes import POINTS, PROBABILITY
from stratalaw.study.variants import BASELINE_NAME
from stratalaw.units import counted

ROUGH = 1.25


def describe_step(step: Step, goal: Goal) -> list[str]:
    """Where a study stands, what comes next, and what that is expected to bring."""
    lines = []
    measured = int(step.belief.variants.is_measured.sum())
    hours = f"{step.spent / 3600:.3g}"
    budget = f" of {goal.seconds / 3600:.3g}" if np.isfinite(goal.seconds) else ""
    lines.append(f"Measured: {measured} of {step.belief.possible} variants, {hours}{budget} GPU-hours.")
    if (weighed := len(step.belief.variants)) < step.belief.possible:
        lines.append(f"{weighed} of them are weighed against each other: what is asked for first, others at random.")
    lines.append(f"Asked: {goal.wish.text}; {_widths(step.before, goal)}.")
    if step.answer:
        lines.append(f"So far: {step.answer}.")
    for stratum, factor in step.belief.roughness.items():
        if factor > ROUGH:
            lines.append(
                f"{stratum} is rough: variants left out in turn miss what the others say by {factor:.1f} times as "
                "much as expected, so its intervals are that much wider."
            )
    if step.ended:
        return [*lines, "The goal is reached." if step.ended == REACHED else f"Nothing to measure next: {step.ended}."]
    models = Counter(model for model, _ in step.variants)
    each = ", ".join(f"{count} of {model}" for model, count in sorted(models.items()))
    originals = sum(variant == BASELINE_NAME for _, variant in step.variants)
    quantized = len(step.variants) - originals
    parts = [counted(quantized, "variant")] if quantized or not originals else []
    parts += [counted(originals, "original")] if originals else []
    lines.append(f"Next: {' and '.join(parts)} ({each}), about {step.seconds / 3600:.3g} GPU-hours.")
    if goal.wish.unit != PROBABILITY and len(step.after) and not step.after.any():
        lines.append("Then all that is asked for is measured.")
    elif goal.wish.unit != PROBABILITY:
        lines.append(f"Expected then: {_widths(step.after, goal)}.")
    return lines


def _widths(half: Array, goal: Goal) -> str:
    if goal.wish.unit == PROBABILITY or not len(half):
        return "a choice"
    scale, unit = (100, " points") if goal.wish.unit == POINTS else (1, "")
    widest, mean = scale * half.max(), scale * half.mean()
    if len(half) == 1:
        return f"95 % interval ±{widest:.2g}{unit}"
    return f"95 % intervals ±{mean:.2g}{unit} on average, ±{widest:.2g}{unit} at most"
