"""An allocation of bits for a model of a study: chosen by measured sensitivities, and judged by items that had no part
in the choice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from stratalaw.jobs.sensitivities import (
    SensitivityError,
    check_model,
    check_strata,
    losses_of_gptq,
    read_sensitivities,
    subject_of,
)
from stratalaw.layout import Results
from stratalaw.models.allocation import Placement, loaded_as
from stratalaw.models.shapes import Shapes, shapes_of_weights
from stratalaw.planning.allocation import (
    BEYOND_DOUBT,
    meets,
    neighbours,
    one_way,
    place_bits,
    share_of_range,
    shrunk,
)
from stratalaw.sensitivities.margins import CHOOSING, HELD_OUT, mean_change
from stratalaw.sensitivities.measuring import MEASURED, Subject
from stratalaw.study import Study
from stratalaw.study.variants import Quantization, calibration_of
from stratalaw.units import parse_bytes, readable_bytes

AVERAGE_BITS = re.compile(r"(\d+(?:\.\d+)?)\s*bits?")
OPTION = ["group", "variant"]
MOST_NEIGHBOURS = 6  # that are measured
CHOSEN, BY_LOSS, BY_LOSS_TRADED = "allocation", "by GPTQ's loss", "by GPTQ's loss, trading bits"


@dataclass(frozen=True)
class Allocated:
    """An allocation and what speaks for it.

    Attributes:
        base: the variant whose bits matrices keep that are not named.
        options: one row for each group of matrices and other variant: ``group``, ``variant``, ``is_chosen``, ``bytes``
            (what it takes more than the base), of the strata that matter ``gain`` (nats, weighted) and ``stderr``, and
            ``loss``, by how much GPTQ's is smaller.
        matrices: how matrices are quantized that do not keep the bits of the base, by name.
        matrices_of_rule: the same of the simple rule.
        judged: one row for each candidate and stratum: ``candidate``, ``stratum``, ``accuracy`` on the held-out items,
            ``more`` (than by the simple rule, paired by item), ``stderr`` of it and ``n_items``. Candidates are all
            variants that were measured, each for the whole model, bits by GPTQ's loss, and the allocation.
        are_written: whether some of these items are answered by writing.
        trade_off: one row for each weight of the strata that matter against the others: ``weight``, and of each
            stratum the share of its range that is expected (see ``share_of_range``).
        bytes: of the weights of the whole model.
        unmeasured: a uniform variant of the study that takes no more than this may, but was not measured; see
            ``unmeasured_uniform``.
        uniform: the variant that all matrices have, if they have the same.
        rule: the candidate that is the simple rule: the better, as measured, of bits by GPTQ's loss and of the largest
            uniform variant within the memory.
        rule_meets_floors: whether any simple rule does; the best one is compared with all the same.
        is_simple: whether bits are those of the rule, since nothing that was measured is better beyond doubt.
        is_better: whether it is beyond doubt better than the rule, in the strata that matter.
    """

    base: Quantization
    options: pd.DataFrame
    matrices: dict[str, Quantization]
    matrices_of_rule: dict[str, Quantization]
    judged: pd.DataFrame
    are_written: bool
    trade_off: pd.DataFrame
    bytes: int
    unmeasured: str | None
    uniform: str | None
    rule: str
    rule_meets_floors: bool
    is_simple: bool
    is_better: bool

    @property
    def recommends_rule(self) -> bool:
        """Whether bits are not those of the simple rule, which meets the floors, and not shown to be better."""
        return self.rule_meets_floors and not (self.is_simple or self.is_better)

    def as_plain(self, of_rule: bool = False) -> dict[str, object]:
        """What a study's file of the allocation holds, or of that of the simple rule."""
        found = self.matrices_of_rule if of_rule else self.matrices
        matrices = {name: {"bits": one.bits, "group_size": one.group_size} for name, one in found.items()}
        return {"bits": self.base.bits, "group_size": self.base.group_size, "matrices": matrices}


def allocate(
    study: Study,
    model: str,
    memory: str,
    weights: Mapping[str, float],
    floors: Mapping[str, float],
    items: int,
    results: Results,
) -> Allocated:
    """The allocation of a model's bits that keeps most of some strata within a memory.

    Args:
        study: whose strata they are.
        model: one of its models, of which sensitivities were measured.
        memory: average bits of a weight, such as ``3.5bits``, or bytes of all weights, such as ``5GB``.
        weights: of the strata that matter.
        floors: the least share of what the largest variant has over the smallest one, by stratum.
        items: by which candidates are measured as a whole, of each stratum that matters at most so many. A few
            candidates take few passes, and a difference that is beyond doubt takes many items.
        results: where sensitivities and checkpoints are.

    Raises:
        SensitivityError: the memory or a stratum makes no sense, or nothing fitting was measured.
        AllocationError: the floors cannot be met.
        SealError: a file is damaged, or was made from another one than is there.
    """
    wanted = list(dict.fromkeys([*weights, *floors]))
    from stratalaw.evaluation.harness import GENERATION

    check_strata(study, wanted)
    check_values(weights, floors)
    check_model(study, model, results)
    shapes = shapes_of_weights(results.model(model))
    base, others, measured, spare = _measured_around(study, model, memory, wanted, shapes, results)
    table = read_sensitivities(model, base, others, measured, results)
    table = table[table.kind == MEASURED]
    bytes_more = table.drop_duplicates(OPTION).set_index(OPTION).bytes
    if bytes_more.min() > spare >= 0:
        raise SensitivityError(
            f"--memory {memory} leaves no room for more bits than those of {base} anywhere: take that as it is"
        )
    noisy, errors = (wide(table, bytes_more, column)[measured] for column in ("gain", "stderr"))
    gains = shrunk(noisy, errors, bytes_more)
    halves = {CHOOSING: items, HELD_OUT: None}
    subjects = subject_of(study, model, base, others, list(study.evaluation.strata), halves, results)
    choosing = subjects[CHOOSING].asking({name: subjects[CHOOSING].asked[name] for name in weights})
    losses = losses_of_gptq(model, base, others, results)
    uniforms = uniform_placements(base, bytes_more)
    rules = simple_rules(base, losses, bytes_more, spare)
    meeting = {name: one for name, one in rules.items() if meets(floors, gains, bytes_more, one)}
    found = [
        one
        for one in placements_to_measure(gains, bytes_more, spare, weights, floors)
        if meets(floors, gains, bytes_more, one)
    ]
    # As the knapsack weighs them: a stratum whose margins are large does not count for more.
    in_nats = {name: weight / (float(gains[name].abs().sum()) or 1.0) for name, weight in weights.items()}
    if meeting:
        rule, chosen = best_measured(choosing, list(meeting.values()), found, in_nats)
    else:  # compared all the same with the best rule, which does not meet the floors
        rule, _ = best_measured(choosing, list(rules.values()), [], in_nats)
        _, chosen = best_measured(choosing, found[:1], found[1:], in_nats)
    rule_name = next(name for name, placement in rules.items() if placement == rule)
    judged = judge(subjects[HELD_OUT], {**uniforms, **rules, CHOSEN: chosen}, rule_name)
    own = judged[(judged.candidate == CHOSEN) & judged.stratum.isin(weights)].set_index("stratum")
    by_weight = pd.Series(weights)
    lead = float((by_weight * own.more).sum())
    doubt = float(np.sqrt(((by_weight * own.stderr) ** 2).sum()))
    base_bytes = shapes.weight_bytes(Quantization.from_name(base))
    return Allocated(
        base=Quantization.from_name(base),
        options=_options(noisy, errors, losses, bytes_more, chosen, weights),
        matrices=_by_matrix(chosen, shapes),
        matrices_of_rule=_by_matrix(rule, shapes),
        judged=judged,
        are_written=any((asked.kind == GENERATION).any() for asked in subjects[HELD_OUT].asked.values()),
        trade_off=_trade_off(gains, errors, bytes_more, spare, weights, floors),
        bytes=base_bytes + bytes_of(chosen, bytes_more),
        unmeasured=unmeasured_uniform(study, model, shapes, [base, *others], base_bytes + spare),
        uniform=next((name for name, placement in uniforms.items() if placement == chosen), None),
        rule=rule_name,
        rule_meets_floors=bool(meeting),
        is_simple=chosen == rule,
        is_better=lead > BEYOND_DOUBT * doubt,
    )


def check_values(weights: Mapping[str, float], floors: Mapping[str, float]) -> None:
    """Raise SensitivityError where weights or floors are no such numbers."""
    for name, weight in weights.items():
        if not 0 <= weight < np.inf:
            raise SensitivityError(f"--weight {name}={weight:g}: a weight is a number that is not negative")
    if not any(weights.values()):
        raise SensitivityError("all weights are 0: one of a stratum that matters is more")
    for name, floor in floors.items():
        if not 0 <= floor <= 1:
            raise SensitivityError(
                f"--floor {name}={floor:g}: a floor is a share, from 0 to 1, of what the most bits add to a stratum"
            )


def simple_rules(base: str, losses: pd.Series, bytes_more: pd.Series, spare: int) -> dict[str, dict[str, str]]:
    """The placements that no measurement of a stratum is needed for, by their names: the largest uniform variant within
    the memory, and bits by GPTQ's loss, of options that go the way of the memory, and of all.

    Args:
        base: the variant from which options go.
        losses: by how much GPTQ's loss is smaller, by option.
        bytes_more, spare: see ``place_bits``.
    """
    fitting = {
        name: placement
        for name, placement in uniform_placements(base, bytes_more).items()
        if bytes_of(placement, bytes_more) <= spare
    }
    rules = dict(list(fitting.items())[-1:])
    for name, options in ((BY_LOSS, one_way(bytes_more, spare)), (BY_LOSS_TRADED, bytes_more)):
        gains = losses.loc[options.index].to_frame("loss")
        placement = place_bits(gains, options, spare, {"loss": 1.0}, {}) if len(options) else {}
        if placement not in rules.values():
            rules[name] = placement
    return rules


def placements_to_measure(
    gains: pd.DataFrame, bytes_more: pd.Series, spare: int, weights: Mapping[str, float], floors: Mapping[str, float]
) -> list[dict[str, str]]:
    """The knapsack's answers over all options and over those that go the way of the memory, and some neighbours of the
    first; see ``place_bits``."""
    first = place_bits(gains, bytes_more, spare, weights, floors)
    options = one_way(bytes_more, spare)
    second = place_bits(gains.loc[options.index], options, spare, weights, {}) if len(options) else {}
    return [first, second, *few(neighbours(first, bytes_more, spare))]


def wide(table: pd.DataFrame, bytes_more: pd.Series, column: str) -> pd.DataFrame:
    """A column of sensitivities by option (rows, in the order of ``bytes_more``) and stratum (columns)."""
    return table.pivot(index=OPTION, columns="stratum", values=column).loc[bytes_more.index]


def unmeasured_uniform(study: Study, model: str, shapes: Shapes, measured: Sequence[str], memory: int) -> str | None:
    """The largest uniform variant of a study that takes at most ``memory`` bytes, and more than all that were measured
    and do so, calibrated as the first of these; None if there is none."""
    (entry,) = (entry for entry in study.models if entry.name == model)
    sizes = [shapes.weight_bytes(Quantization.from_name(name)) for name in measured]
    least = max(size for size in sizes if size <= memory)
    fitting = [
        one
        for one in study.quantizations_of(entry)
        if not one.exceptions
        and one.name not in measured
        and calibration_of(one.name) == calibration_of(measured[0])
        and least < shapes.weight_bytes(one) <= memory
    ]
    return max(fitting, key=shapes.weight_bytes).name if fitting else None


def judge(subject: Subject, candidates: Mapping[str, Placement], against: str) -> pd.DataFrame:
    """The accuracy of each candidate in each stratum, and what it has more than one of them, paired by item; see
    ``Allocated.judged``.

    Args:
        subject: with the items that judge.
        candidates: placements, by the candidate's name.
        against: the name of one of them.
    """
    different = {frozenset(placement.items()): placement for placement in candidates.values()}
    by_options = {key: subject.answered(placement) for key, placement in different.items()}
    answered = {name: by_options[frozenset(placement.items())] for name, placement in candidates.items()}
    rows = []
    for name, found in answered.items():
        for stratum, items in found.items():
            right = items.is_answered.astype(float)
            more, stderr = mean_change(right - answered[against][stratum].is_answered)
            accuracy, _ = mean_change(right)
            about = {"candidate": name, "stratum": stratum, "accuracy": accuracy, "more": more}
            rows.append(about | {"stderr": stderr, "n_items": len(items)})
    return pd.DataFrame(rows)


def best_measured(
    subject: Subject, rules: Sequence[Placement], others: Sequence[Placement], weights: Mapping[str, float]
) -> tuple[Placement, Placement]:
    """The best of some simple rules, and the best of these and of others, each measured as a whole: gains need not add
    up.

    One that is no rule must be better than the best rule beyond doubt on the items by which bits are chosen, paired by
    item: of many that are as good, one always looks better. Of rules that are as good, the first is taken.
    """
    answered = [subject.answered(placement) for placement in rules]
    leads = [_lead(found, answered[0], weights)[0] for found in answered]
    place = int(np.argmax(leads))
    rule = best = rules[place]
    lead_of_best = 0.0
    for placement in (placement for placement in others if placement not in rules):
        lead, doubt = _lead(subject.answered(placement), answered[place], weights)
        if lead > max(lead_of_best, BEYOND_DOUBT * doubt):
            best, lead_of_best = placement, lead
    return rule, best


def few(near: list[dict[str, str]]) -> list[dict[str, str]]:
    """At most as many of the neighbours of an allocation as are measured, spread over them."""
    return near[:: max(1, -(-len(near) // MOST_NEIGHBOURS))]


def _lead(
    after: Mapping[str, pd.DataFrame], before: Mapping[str, pd.DataFrame], weights: Mapping[str, float]
) -> tuple[float, float]:
    """By how many nats the margins of items are larger, weighted over strata, and the standard error of it."""
    changes = {name: mean_change(after[name].margin - before[name].margin) for name in weights}
    lead = sum(weight * changes[name][0] for name, weight in weights.items())
    return lead, sum((weight * changes[name][1]) ** 2 for name, weight in weights.items()) ** 0.5


def _measured_around(
    study: Study, model: str, memory: str, wanted: Sequence[str], shapes: Shapes, results: Results
) -> tuple[str, list[str], list[str], int]:
    """The base and the other variants between which a memory lies, the strata that were measured, and what the memory
    leaves above the base; of several measurements that with most variants, or else with the least between them."""
    average = AVERAGE_BITS.fullmatch(memory.strip())
    try:
        limit = None if average else parse_bytes(memory)
    except ValueError:
        raise SensitivityError(f"--memory {memory}: give average bits such as 3.5bits, or bytes such as 5GB") from None
    found, limits = [], []
    sizes_of: dict[str, int] = {}
    for folder in sorted(results.root.glob(f"sensitivities/{model}/w*")):
        base = Quantization.from_name(folder.name)
        strata_of = _measured_strata(study, model, base.name, results)
        others = [other for other, names in strata_of.items() if set(wanted) <= names]
        if not others:
            continue
        strata = [name for name in study.evaluation.strata if all(name in strata_of[other] for other in others)]
        sizes = [shapes.weight_bytes(Quantization.from_name(name)) for name in (base.name, *others)]
        sizes_of |= dict(zip((base.name, *others), sizes, strict=True))
        if average:
            bit = shapes.weight_bytes(replace(base, bits=base.bits + 1)) - sizes[0]
            spare = int((float(average[1]) - base.bits) * bit)
        else:
            spare = (limit or 0) - sizes[0]
        limits.append(sizes[0] + spare)
        if min(sizes) < limits[-1] < max(sizes):
            found.append((-len(others), max(sizes) - min(sizes), base.name, others, strata, spare))
    if not found and sizes_of:
        _refuse_beyond(memory, limits, sizes_of)
    if not found:
        raise SensitivityError(
            f"no sensitivities of {model} were measured for {', '.join(wanted)} between variants of which {memory} is "
            "more than the smallest takes and less than the largest: stratalaw sensitivities STUDY.yaml --model "
            f"{model} --base … --other …"
        )
    return min(found)[2:]


def _measured_strata(study: Study, model: str, base: str, results: Results) -> dict[str, set[str]]:
    """The strata that were measured from a base, by the other variant, which is calibrated as the base is."""
    folder = results.root / "sensitivities" / model / base
    others = sorted(path.name for path in folder.glob("w*") if calibration_of(path.name) == calibration_of(base))
    strata = study.evaluation.strata
    return {
        other: {name for name in strata if results.sensitivities(model, base, other, name).exists()} for other in others
    }


def _refuse_beyond(memory: str, limits: Sequence[int], sizes: Mapping[str, int]) -> None:
    """Raise SensitivityError where a memory is not between the variants that were measured.

    Args:
        memory: as it was given.
        limits: bytes that it means, by the base from which average bits count.
        sizes: bytes of the variants.
    """
    smallest, largest = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    least, most = (readable_bytes(sizes[name]) for name in (smallest, largest))
    if min(limits) >= sizes[largest]:
        why = f"is enough for {largest} ({most}), the largest that was measured: take that as it is"
    elif max(limits) == sizes[smallest]:
        why = f"is what {smallest} takes, the smallest that was measured: take that as it is"
    elif max(limits) < sizes[smallest]:
        why = f"is less than {smallest} takes ({least}), the smallest that was measured: measure one with fewer bits"
    else:
        return
    raise SensitivityError(f"--memory {memory} {why}")


def uniform_placements(base: str, bytes_more: pd.Series) -> dict[str, dict[str, str]]:
    """The placements in which all groups have the same variant, by its name; from the smallest to the largest."""
    sizes = bytes_more.groupby(level=1).sum()
    sizes[base] = 0
    return {
        str(variant): dict(option for option in bytes_more.index if option[1] == variant)
        for variant in sizes.sort_values().index
    }


def _by_matrix(placement: Placement, shapes: Shapes) -> dict[str, Quantization]:
    """How the matrices are quantized that do not keep the bits of the base, by name."""
    groups = {matrix.name: loaded_as(matrix.name) for matrix in shapes.matrices}
    return {name: Quantization.from_name(placement[group]) for name, group in groups.items() if group in placement}


def bytes_of(placement: Placement, bytes_more: pd.Series) -> int:
    """What a placement takes more than the base."""
    return int(bytes_more[list(placement.items())].sum())


def _options(
    gains: pd.DataFrame,
    errors: pd.DataFrame,
    losses: pd.Series,
    bytes_more: pd.Series,
    chosen: Placement,
    weights: Mapping[str, float],
) -> pd.DataFrame:
    by_weight = pd.Series(weights)
    table = bytes_more.reset_index()
    table["is_chosen"] = [chosen.get(group) == variant for group, variant in bytes_more.index]
    table["gain"] = (gains[by_weight.index] @ by_weight).to_numpy()
    table["stderr"] = np.sqrt(errors[by_weight.index] ** 2 @ by_weight**2).to_numpy()
    table["loss"] = losses.loc[bytes_more.index].to_numpy()
    return table


def _trade_off(
    gains: pd.DataFrame,
    errors: pd.DataFrame,
    bytes_more: pd.Series,
    spare: int,
    weights: Mapping[str, float],
    floors: Mapping[str, float],
) -> pd.DataFrame:
    others = [str(stratum) for stratum in gains if stratum not in weights]
    rows = []
    for weight in (1.0, 0.75, 0.5, 0.25, 0.0) if others else (1.0,):
        mixed = {name: weight * own for name, own in weights.items()} | dict.fromkeys(others, 1 - weight)
        chosen = place_bits(gains, bytes_more, spare, mixed, floors)
        rows.append({"weight": weight} | share_of_range(gains, errors, bytes_more, chosen).to_dict())
    return pd.DataFrame(rows)
