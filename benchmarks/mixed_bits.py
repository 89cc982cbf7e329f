"""What bits placed by measured knowledge keep, at equal memory, on items that had no part in placing them.

    python benchmarks/mixed_bits.py STUDY.yaml RESULTS OUT.json MODEL ... [--average 3.5] [--draw 1]

The study must have been run as far as the answers of originals and checkpoints of 2, 3 and 4 bits of each model, with
groups of 128 and 32 samples, in each draw that is asked for. For 3.5, 3.0 and 2.5 average bits and each stratum in
turn, bits are allocated as ``stratalaw allocate`` does, from 3 bits to 2 and to 4, and judged beside:

- *100 items*: the same with groups measured on so many items, and candidates as a whole on all;
- *two precisions*: between the two of PAIRS, from the smaller one;
- *uniform*: the largest uniform variant that takes no more;
- *GPTQ's loss* of options that go the way of the memory, and *traded*, of all;
- *output error*: as GPTQ's loss, by the error of each matrix's outputs on the items by which bits are allocated;
- *knapsack alone*: over all options, and not compared with any other; *random groups*: its bits on random groups.

Groups swap dense weights of three checkpoints; no allocation is quantized anew. It runs on a GPU where there is one,
and OUT.json grows with each model and draw.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stratalaw.evaluation.answers import load_dense
from stratalaw.files import write_json
from stratalaw.jobs.allocation import (
    BY_LOSS,
    BY_LOSS_TRADED,
    best_measured,
    bytes_of,
    placements_to_measure,
    simple_rules,
    wide,
)
from stratalaw.jobs.sensitivities import losses_of_gptq, more_bytes, subject_of
from stratalaw.jobs.stages import device
from stratalaw.layout import Results
from stratalaw.models.allocation import Placement
from stratalaw.planning.allocation import one_way, place_bits, shrunk
from stratalaw.sensitivities.margins import CHOOSING, HELD_OUT
from stratalaw.sensitivities.measuring import Subject, measured_gains
from stratalaw.study import Study, read_study

PAIRS = {3.5: (3, 4), 3.0: (2, 4), 2.5: (2, 3)}  # of two precisions
MIDDLE, OTHERS = 3, (2, 4)
ITEMS, FEW, HELD_OUT_ITEMS = 300, 100, 600
RANDOM = 2
LESS, TWO, UNIFORM, LOSS, TRADED = "100 items", "two precisions", "uniform", "GPTQ's loss", "GPTQ's loss, traded"
RULES = (LESS, TWO, UNIFORM, LOSS, TRADED, "output error", "knapsack alone", "random groups")


def variant_of(bits: int, draw: int) -> str:
    return f"w{bits}-g128-c32-s{draw}"


@dataclass
class Measured:
    """What is known of the options between some variants of a model, and what its placements answered."""

    base: str
    choosing: Subject
    judging: Subject
    bytes_more: pd.Series
    losses: pd.Series
    gains: pd.DataFrame
    errors: pd.DataFrame
    answered: dict[frozenset[tuple[str, str]], dict[str, pd.DataFrame]] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, model: str, bits: tuple[int, ...], draw: int, results: Results) -> Measured:
        """Between a number of bits, and others."""
        base, *others = (variant_of(one, draw) for one in bits)
        halves, strata = {CHOOSING: ITEMS, HELD_OUT: HELD_OUT_ITEMS}, list(study.evaluation.strata)
        subjects = subject_of(study, model, base, others, strata, halves, results)
        bytes_more = pd.Series(more_bytes(model, base, others, results))
        losses = losses_of_gptq(model, base, others, results)
        gains, errors = gains_of(subjects[CHOOSING], bytes_more)
        return cls(base, subjects[CHOOSING], subjects[HELD_OUT], bytes_more, losses, gains, errors)

    def on_fewer_items(self) -> Measured:
        """With gains by fewer items; candidates are compared by all."""
        asked = {name: first_of_tasks(rows, FEW) for name, rows in self.choosing.asked.items()}
        gains, errors = gains_of(self.choosing.asking(asked), self.bytes_more)
        return replace(self, gains=gains, errors=errors)

    def only_with(self, variant: str) -> Measured:
        """With one of the other variants alone."""
        options = self.bytes_more[self.bytes_more.index.get_level_values(1) == variant]
        gains, errors = self.gains.loc[options.index], self.errors.loc[options.index]
        return replace(self, bytes_more=options, gains=gains, errors=errors)

    def rules(self, spare: int) -> dict[str, dict[str, str]]:
        return simple_rules(self.base, self.losses, self.bytes_more, spare)

    def placed(self, spare: int, kept: str) -> tuple[Placement, Placement, Placement]:
        """The knapsack's answer, the best simple rule, and what ``stratalaw allocate`` takes."""
        gains = shrunk(self.gains, self.errors, self.bytes_more)
        found = placements_to_measure(gains, self.bytes_more, spare, {kept: 1.0}, {})
        subject = self.choosing.asking({kept: self.choosing.asked[kept]})
        return found[0], *best_measured(subject, list(self.rules(spare).values()), found, {kept: 1.0})

    def judged(self, placement: Placement) -> dict[str, pd.DataFrame]:
        options = frozenset(placement.items())
        if options not in self.answered:
            self.answered[options] = self.judging.answered(placement)
        return self.answered[options]


def gains_of(subject: Subject, bytes_more: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = measured_gains(subject)
    return wide(table, bytes_more, "gain"), wide(table, bytes_more, "stderr")


def first_of_tasks(asked: pd.DataFrame, items: int) -> pd.DataFrame:
    """The requests of at most so many items, as many of each task."""
    names = asked[["task", "document"]].drop_duplicates()
    names = names.groupby("task", sort=False).head(items // names.task.nunique())
    kept: pd.DataFrame = asked.reset_index().merge(names, on=["task", "document"]).set_index("index")
    return kept


def output_errors(subject: Subject, original: torch.nn.Module) -> pd.Series:
    """By how much the squared error of each group's outputs is smaller with each other checkpoint, on the inputs that
    the base gives it."""
    errors = dict.fromkeys(product(subject.groups, subject.others), 0.0)

    def note(group: str, name: str, module: Any, inputs: Any, output: torch.Tensor) -> None:
        exact = torch.nn.functional.linear(inputs[0], original.get_parameter(name))
        for variant, weights in subject.others.items():
            other = torch.nn.functional.linear(inputs[0], weights[name].to(inputs[0].device))
            errors[group, variant] += float(((output - exact) ** 2).sum() - ((other - exact) ** 2).sum())

    handles = [
        subject.model.get_submodule(name.removesuffix(".weight")).register_forward_hook(partial(note, group, name))
        for group, names in subject.groups.items()
        for name in names
    ]
    subject.answered({})
    for handle in handles:
        handle.remove()
    return pd.Series(errors)


def on_random_groups(placement: Placement, bytes_more: pd.Series, spare: int) -> Iterator[dict[str, str]]:
    """The bits of a placement on random groups, where the memory allows it: groups differ in size."""
    generator, groups = np.random.default_rng(0), list(bytes_more.index.unique(0))
    fitting = 0
    for _ in range(1000):
        order = generator.permutation(len(groups))
        random = {
            groups[place]: placement[group] for place, group in zip(order, groups, strict=True) if group in placement
        }
        if bytes_of(random, bytes_more) <= spare:
            yield random
            fitting += 1
        if fitting == RANDOM:
            return


def replay(study: Study, model: str, averages: list[float], draw: int, results: Results) -> list[dict[str, Any]]:
    """One row for each average, stratum that is kept and stratum that is looked at, with points more than by each other
    rule."""
    three = Measured.of(study, model, (MIDDLE, *OTHERS), draw, results)
    less = three.on_fewer_items()
    original = load_dense(results.model(model), device())
    errors = output_errors(three.choosing, original).loc[three.bytes_more.index].to_frame("x")
    a_bit = int(three.bytes_more.xs(variant_of(4, draw), level=1).sum())
    rows = []
    for average in averages:
        low, high = PAIRS[average]
        spare = round((average - MIDDLE) * a_bit)
        if low == MIDDLE:
            two, spare_of_two = three.only_with(variant_of(high, draw)), spare
        else:
            two, spare_of_two = Measured.of(study, model, (low, high), draw, results), round((average - low) * a_bit)
        rules = three.rules(spare)
        options = one_way(three.bytes_more, spare) if spare else three.bytes_more
        by_rule = {
            UNIFORM: next(iter(rules.values())),
            LOSS: rules.get(BY_LOSS, {}),
            TRADED: rules.get(BY_LOSS_TRADED, rules.get(BY_LOSS, {})),
            "output error": place_bits(errors.loc[options.index], options, spare, {"x": 1.0}, {}),
        }
        simple = {name: [three.judged(placement)] for name, placement in by_rule.items()}
        for kept in three.choosing.asked:
            first, rule, chosen = three.placed(spare, kept)
            answered = simple | {
                LESS: [three.judged(less.placed(spare, kept)[2])],
                TWO: [two.judged(two.placed(spare_of_two, kept)[2])],
                "knapsack alone": [three.judged(first)],
                "random groups": [three.judged(one) for one in on_random_groups(first, three.bytes_more, spare)],
            }
            found = three.judged(chosen)
            about: dict[str, Any] = {"model": model, "average": average, "draw": draw, "kept": kept}
            about["is simple"], about["is uniform"] = chosen == rule, chosen == by_rule[UNIFORM]
            about["chosen"] = dict(chosen)
            for stratum in three.choosing.asked:
                row = about | {"stratum": stratum}
                row["accuracy"] = float(found[stratum].is_answered.groupby("task").mean().mean())
                for name in RULES:
                    more = [
                        found[stratum].is_answered.astype(float) - one[stratum].is_answered for one in answered[name]
                    ]
                    row[name] = 100 * float((sum(more) / len(more)).groupby("task").mean().mean())
                rows.append(row)
    return rows


def interval(values: pd.Series, by: pd.Series) -> str:
    """The mean and its 95 % interval over models, each drawn again with all that it has (bootstrap)."""
    generator, cells = np.random.default_rng(0), [own.to_numpy() for _, own in values.groupby(by)]
    means = [
        np.concatenate([cells[place] for place in generator.integers(len(cells), size=len(cells))]).mean()
        for _ in range(2000)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def summarize(table: pd.DataFrame) -> None:
    """Print what the kept stratum and the others have more than by each other rule: by bits and stratum, and in all."""
    parts = [
        *((f"{average} bits to keep {kept}", rows) for (average, kept), rows in table.groupby(["average", "kept"])),
        *((f"{average} bits", rows) for average, rows in table.groupby("average")),
        ("all of them", table),
    ]
    for name, rows in parts:
        own = rows.kept == rows.stratum
        print(f"{name}: {rows.model.nunique()} models")
        for what in ("is simple", "is uniform"):
            print(f"  {what}: {rows[what][own].mean():.0%}")
        for strata, chosen in (("kept stratum", own), ("other strata", ~own)):
            for rule in RULES:
                print(f"  {strata}, points more than {rule}: {interval(rows[rule][chosen], rows.model[chosen])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--average", type=float, action="append", choices=PAIRS)
    parser.add_argument("--draw", type=int, action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    study, results = read_study(arguments.study), Results(arguments.results)
    for draw, model in product(arguments.draw or [0], arguments.models):
        started = time.perf_counter()
        rows += replay(study, model, arguments.average or list(PAIRS), draw, results)
        write_json(rows, arguments.out)
        print(f"{model}, draw {draw}: {time.perf_counter() - started:.0f} s", flush=True)
    summarize(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
