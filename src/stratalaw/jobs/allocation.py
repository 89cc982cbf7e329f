"""An allocation of bits for a model of a study: chosen by measured sensitivities, and judged by items that had no part
in the choice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import ByteSize, TypeAdapter, ValidationError

from stratalaw.jobs.sensitivities import (
    SensitivityError,
    check_model,
    losses_of_gptq,
    read_sensitivities,
    subject_of,
)
from stratalaw.layout import Results
from stratalaw.models.allocation import loaded_as
from stratalaw.models.shapes import Shapes, shapes_of_weights
from stratalaw.planning.allocation import BEYOND_DOUBT, chosen_groups, meets, neighbours, share_of_gains, shrunk
from stratalaw.sensitivities.margins import CHOOSING, HELD_OUT, mean_change
from stratalaw.sensitivities.measuring import MEASURED, Subject
from stratalaw.study import Study
from stratalaw.study.variants import Quantization, calibration_of

AVERAGE_BITS = re.compile(r"(\d+(?:\.\d+)?)\s*bits?")
MOST_NEIGHBOURS = 6  # that are measured
SMALLER, CHOSEN, BY_LOSS, LARGER = "smaller", "allocation", "by GPTQ's loss", "larger"


@dataclass(frozen=True)
class Allocated:
    """An allocation and what speaks for it.

    Attributes:
        low, high: the variants between which it lies.
        groups: one row for each group of matrices: ``group``, ``bits``, ``bytes`` (what it takes more with the bits of
            the larger variant), and of the strata that matter ``gain`` (nats, weighted) and ``stderr``.
        matrices: the names of the matrices that have the bits of the larger variant.
        judged: one row for each candidate and stratum: ``candidate``, ``stratum``, ``accuracy`` on the held-out items,
            ``more`` (than by GPTQ's loss, paired by item), ``stderr`` of it and ``n_items``.
        trade_off: one row for each weight of the strata that matter against the others: ``weight``, and of each
            stratum the share of the gain that is expected (see ``share_of_gains``).
        bytes: of the weights of the whole model.
        uniform: the uniform variant of the study that lies between the two, and takes no more than this one may.
        is_simple: whether bits are those by GPTQ's loss, since nothing that was measured is better beyond doubt.
        is_better: whether it is beyond doubt better than bits by GPTQ's loss, in the strata that matter.
    """

    low: Quantization
    high: Quantization
    groups: pd.DataFrame
    matrices: list[str]
    judged: pd.DataFrame
    trade_off: pd.DataFrame
    bytes: int
    uniform: str | None
    is_simple: bool
    is_better: bool

    def as_plain(self) -> dict[str, object]:
        """What a study's file of an allocation holds."""
        precision = {"bits": self.high.bits, "group_size": self.high.group_size}
        matrices = {name: dict(precision) for name in self.matrices}
        return {"bits": self.low.bits, "group_size": self.low.group_size, "matrices": matrices}


def allocate(
    study: Study, model: str, memory: str, weights: Mapping[str, float], floors: Mapping[str, float], results: Results
) -> Allocated:
    """The allocation of a model's bits that keeps most of some strata within a memory.

    Args:
        study: whose strata they are.
        model: one of its models, of which sensitivities were measured.
        memory: average bits of a weight, such as ``3.5bits``, or bytes of all weights, such as ``5GB``.
        weights: of the strata that matter.
        floors: the least share of what the larger variant has over the smaller one, by stratum.
        results: where sensitivities and checkpoints are.

    Raises:
        SensitivityError: the memory or a stratum makes no sense, or nothing fitting was measured.
        AllocationError: the floors cannot be met.
        SealError: a file is damaged, or was made from another one than is there.
    """
    strata = list(study.evaluation.strata)
    if unknown := sorted({*weights, *floors} - set(strata)):
        raise SensitivityError(f"{unknown[0]} is not one of the study's strata ({', '.join(strata)})")
    check_model(study, model, results)
    low_name, high_name, spare = _between(model, memory, results)
    low, high = Quantization.from_name(low_name), Quantization.from_name(high_name)
    table = read_sensitivities(study, model, low_name, high_name, results)
    table = table[table.kind == MEASURED]
    bytes_more = table.drop_duplicates("group").set_index("group").bytes
    noisy, errors = (
        table.pivot(index="group", columns="stratum", values=column).loc[bytes_more.index, strata]
        for column in ("gain", "stderr")
    )
    if bytes_more.min() > spare:
        raise SensitivityError(f"--memory {memory} leaves no room for more bits than those of {low_name} anywhere")
    gains = shrunk(noisy, errors, bytes_more)
    first = chosen_groups(gains, bytes_more, spare, weights, floors)  # none where none seems to gain anything
    subjects = subject_of(
        study, model, low_name, high_name, {CHOOSING: int(table.n_items.max()), HELD_OUT: None}, results
    )
    losses = losses_of_gptq(model, low_name, high_name, results).loc[bytes_more.index].to_frame("loss")
    by_loss = chosen_groups(losses, bytes_more, spare, {"loss": 1.0}, {})
    near = [groups for groups in neighbours(first, bytes_more, spare) if meets(floors, gains, groups)]
    rule, *others = [by_loss, first, *few(near)] if meets(floors, gains, by_loss) else [first, *few(near)]
    chosen = best_measured(subjects[CHOOSING], rule, others, weights)
    candidates = {SMALLER: [], BY_LOSS: by_loss, CHOSEN: chosen, LARGER: list(bytes_more.index)}
    judged = judge(subjects[HELD_OUT], candidates, BY_LOSS)
    own = judged[(judged.candidate == CHOSEN) & judged.stratum.isin(weights)].set_index("stratum")
    by_weight = pd.Series(weights)
    lead = float((by_weight * own.more).sum())
    doubt = float(np.sqrt(((by_weight * own.stderr) ** 2).sum()))
    shapes = shapes_of_weights(results.model(model))
    return Allocated(
        low=low,
        high=high,
        groups=_groups(noisy, errors, bytes_more, chosen, weights, (low, high)),
        matrices=[matrix.name for matrix in shapes.matrices if loaded_as(matrix.name) in chosen],
        judged=judged,
        trade_off=_trade_off(gains, errors, bytes_more, spare, weights),
        bytes=shapes.weight_bytes(low) + int(bytes_more[chosen].sum()),
        uniform=uniform_between(study, model, shapes, (low, high), shapes.weight_bytes(low) + spare),
        is_simple=set(chosen) == set(by_loss),
        is_better=lead > BEYOND_DOUBT * doubt,
    )


def uniform_between(
    study: Study, model: str, shapes: Shapes, between: tuple[Quantization, Quantization], memory: int
) -> str | None:
    """The largest uniform variant of a study with more bits than the one and fewer than the other of two, calibrated as
    the first, whose weights take at most ``memory`` bytes; None if there is none."""
    low, high = between
    (entry,) = (entry for entry in study.models if entry.name == model)
    uniform = [one for one in study.quantizations_of(entry) if not one.exceptions and low.bits < one.bits < high.bits]
    alike = [one for one in uniform if calibration_of(one.name) == calibration_of(low.name)]
    fitting = [one for one in alike if shapes.weight_bytes(one) <= memory]
    return max(fitting, key=shapes.weight_bytes).name if fitting else None


def judge(subject: Subject, candidates: Mapping[str, Sequence[str]], against: str) -> pd.DataFrame:
    """The accuracy of each candidate in each stratum, and what it has more than one of them, paired by item; see
    ``Allocated.judged``.

    Args:
        subject: with the items that judge.
        candidates: the groups that have the bits of the larger variant, by the candidate's name.
        against: the name of one of them.
    """
    different = {frozenset(groups): groups for groups in candidates.values()}
    by_groups = {key: subject.answered(groups) for key, groups in different.items()}
    answered = {name: by_groups[frozenset(groups)] for name, groups in candidates.items()}
    rows = []
    for name, found in answered.items():
        for stratum, items in found.items():
            right = items.is_answered.astype(float)
            more, stderr = mean_change(right - answered[against][stratum].is_answered)
            accuracy, _ = mean_change(right)
            about = {"candidate": name, "stratum": stratum, "accuracy": accuracy, "more": more}
            rows.append(about | {"stderr": stderr, "n_items": len(items)})
    return pd.DataFrame(rows)


def _between(model: str, memory: str, results: Results) -> tuple[str, str, int]:
    """The variants between which the memory lies, and the bytes that it leaves above the smaller one."""
    wanted = AVERAGE_BITS.fullmatch(memory.strip())
    try:
        limit = None if wanted else int(TypeAdapter(ByteSize).validate_python(memory))
    except ValidationError:
        raise SensitivityError(f"--memory {memory}: give average bits such as 3.5bits, or bytes such as 5GB") from None
    shapes = shapes_of_weights(results.model(model))
    found = []
    for path in sorted(results.sensitivities(model, "*", "*").parent.parent.glob("*/*.parquet")):
        low, high = Quantization.from_name(path.parent.name), Quantization.from_name(path.stem)
        least, most = shapes.weight_bytes(low), shapes.weight_bytes(high)
        if wanted:
            spare = int((float(wanted[1]) - low.bits) / (high.bits - low.bits) * (most - least))
        else:
            spare = (limit or 0) - least
        if 0 < spare < most - least:
            found.append((most - least, low.name, high.name, spare))
    if not found:
        raise SensitivityError(
            f"no sensitivities of {model} were measured between two variants of which {memory} is more than the one "
            f"takes and less than the other: stratalaw sensitivities STUDY.yaml --model {model} --low … --high …"
        )
    _, low_name, high_name, spare = min(found)
    return low_name, high_name, spare


def best_measured(
    subject: Subject, rule: list[str], others: Sequence[list[str]], weights: Mapping[str, float]
) -> list[str]:
    """The allocation of a rule, or that one of others which is best as a whole: gains need not add up.

    Another must be better beyond doubt on the items by which bits are chosen, paired by item: of many that are as
    good, one always looks better.
    """
    before = subject.answered(rule)
    best, lead_of_best = rule, 0.0
    for groups in (groups for groups in others if groups != rule):
        after = subject.answered(groups)
        changes = {name: mean_change(after[name].margin - before[name].margin) for name in weights}
        lead = sum(weight * changes[name][0] for name, weight in weights.items())
        doubt = sum((weight * changes[name][1]) ** 2 for name, weight in weights.items()) ** 0.5
        if lead > max(lead_of_best, BEYOND_DOUBT * doubt):
            best, lead_of_best = groups, lead
    return best


def few(near: list[list[str]]) -> list[list[str]]:
    """At most as many of the neighbours of an allocation as are measured, spread over them."""
    return near[:: max(1, -(-len(near) // MOST_NEIGHBOURS))]


def _groups(
    gains: pd.DataFrame,
    errors: pd.DataFrame,
    bytes_more: pd.Series,
    chosen: Sequence[str],
    weights: Mapping[str, float],
    between: tuple[Quantization, Quantization],
) -> pd.DataFrame:
    by_weight = pd.Series(weights)
    low, high = between
    table = pd.DataFrame(
        {
            "group": gains.index,
            "bits": [high.bits if group in chosen else low.bits for group in gains.index],
            "bytes": bytes_more.to_numpy(),
            "gain": (gains[by_weight.index] @ by_weight).to_numpy(),
            "stderr": np.sqrt(errors[by_weight.index] ** 2 @ by_weight**2).to_numpy(),
        }
    )
    return table


def _trade_off(
    gains: pd.DataFrame, errors: pd.DataFrame, bytes_more: pd.Series, spare: int, weights: Mapping[str, float]
) -> pd.DataFrame:
    others = [str(stratum) for stratum in gains if stratum not in weights]
    rows = []
    for weight in (1.0, 0.75, 0.5, 0.25, 0.0) if others else (1.0,):
        mixed = {name: weight * own for name, own in weights.items()} | dict.fromkeys(others, 1 - weight)
        chosen = chosen_groups(gains, bytes_more, spare, mixed, {})
        rows.append({"weight": weight} | share_of_gains(gains, errors, chosen).to_dict())
    return pd.DataFrame(rows)
