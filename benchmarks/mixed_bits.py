"""What bits placed by measured knowledge keep, at equal memory, on items that had no part in placing them.

    python benchmarks/mixed_bits.py STUDY.yaml RESULTS OUT.json MODEL ... [--average 3.5]

The study must have been run as far as requests and checkpoints of 2, 3 and 4 bits of each model. For 2.5, 3.0 and 3.5
average bits and each stratum in turn, bits are allocated as ``stratalaw allocate`` does, and compared with: the nearest
uniform variant that takes no more, random halves, GPTQ's own loss, and the error of each matrix's outputs on the items
by which bits are allocated. Groups swap dense weights of two checkpoints; no allocation is quantized anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stratalaw.evaluation.answers import load_dense
from stratalaw.files import write_json
from stratalaw.jobs.allocation import best_measured, few
from stratalaw.jobs.sensitivities import losses_of_gptq, more_bytes, subject_of
from stratalaw.layout import Results
from stratalaw.planning.allocation import chosen_groups, neighbours, shrunk
from stratalaw.sensitivities.first_order import first_order_gains
from stratalaw.sensitivities.margins import CHOOSING, HELD_OUT
from stratalaw.sensitivities.measuring import Subject, measured_gains
from stratalaw.study import Study, read_study

PAIRS = {2.5: (2, 3), 3.0: (2, 4), 3.5: (3, 4)}
RANDOM, SIMPLE = 5, ("nearest uniform", "random half", "GPTQ's loss", "output error", "knapsack alone")
ITEMS, HELD_OUT_ITEMS = 300, 600


def variant_of(bits: int) -> str:
    return f"w{bits}-g128-c32-s0"


def output_errors(subject: Subject, original: torch.nn.Module) -> pd.Series:
    """By how much the squared error of each group's outputs is smaller with more bits, on the inputs that the smaller
    checkpoint gives it."""
    errors = dict.fromkeys(subject.groups, 0.0)

    def note(group: str, name: str, module: Any, inputs: Any, output: torch.Tensor) -> None:
        exact = torch.nn.functional.linear(inputs[0], original.get_parameter(name))
        better = torch.nn.functional.linear(inputs[0], subject.other[name])
        errors[group] += float(((output - exact) ** 2).sum() - ((better - exact) ** 2).sum())

    handles = [
        subject.model.get_submodule(name.removesuffix(".weight")).register_forward_hook(partial(note, group, name))
        for group, names in subject.groups.items()
        for name in names
    ]
    subject.answered([])
    for handle in handles:
        handle.remove()
    return pd.Series(errors)


def random_groups(bytes_more: pd.Series, spare: int) -> Iterator[list[str]]:
    """Groups in a random order, as many as there is memory for."""
    generator = np.random.default_rng(0)
    for _ in range(RANDOM):
        chosen: list[str] = []
        for group in generator.permutation(bytes_more.index):
            if bytes_more[[*chosen, group]].sum() <= spare:
                chosen.append(group)
        yield chosen


def replay(study: Study, model: str, average: float, results: Results) -> list[dict[str, Any]]:
    """One row for each stratum that is kept, stratum that is looked at, and rule to compare with."""
    low, high = map(variant_of, PAIRS[average])
    subjects = subject_of(study, model, low, high, {CHOOSING: ITEMS, HELD_OUT: HELD_OUT_ITEMS}, results)
    choosing, judging = subjects[CHOOSING], subjects[HELD_OUT]
    bytes_more = pd.Series(more_bytes(model, low, high, results)).loc[list(choosing.groups)]
    spare = int(bytes_more.sum() * (average - PAIRS[average][0]) / (PAIRS[average][1] - PAIRS[average][0]))
    started = time.process_time()
    table = measured_gains(choosing)
    seconds = {"measured": time.process_time() - started}
    started = time.process_time()
    estimated = first_order_gains(choosing)
    seconds["first order"] = time.process_time() - started
    both = table.merge(estimated, on=["group", "stratum"])
    gains, errors = (
        table.pivot(index="group", columns="stratum", values=column).loc[bytes_more.index]
        for column in ("gain", "stderr")
    )
    rules = {
        "GPTQ's loss": losses_of_gptq(model, low, high, results),
        "output error": output_errors(choosing, load_dense(results.model(model), "cpu")),
    }
    by_rule = {
        name: chosen_groups(rule.loc[bytes_more.index].to_frame("x"), bytes_more, spare, {"x": 1.0}, {})
        for name, rule in rules.items()
    }
    answered = {name: [judging.answered(groups)] for name, groups in by_rule.items()}
    answered["random half"] = [judging.answered(groups) for groups in random_groups(bytes_more, spare)]
    answered["nearest uniform"] = [judging.answered([])]
    if average == 3.0:
        uniform = subject_of(study, model, variant_of(3), high, {HELD_OUT: HELD_OUT_ITEMS}, results)[HELD_OUT]
        answered["nearest uniform"] = [uniform.answered([])]
    rows = []
    for kept in choosing.asked:
        first = chosen_groups(shrunk(gains, errors, bytes_more), bytes_more, spare, {kept: 1.0}, {})
        near = few(neighbours(first, bytes_more, spare))
        chosen = best_measured(choosing, by_rule["GPTQ's loss"], [first, *near], {kept: 1.0})
        answered["knapsack alone"] = [judging.answered(first)]
        found = judging.answered(chosen)
        ranks = both[both.stratum == kept]
        for stratum in choosing.asked:
            accuracy = float(found[stratum].is_answered.groupby("task").mean().mean())
            about = {"model": model, "average": average, "kept": kept, "stratum": stratum, "accuracy": accuracy}
            about["rank correlation"] = float(ranks.gain_x.corr(ranks.gain_y, method="spearman"))
            for rule in SIMPLE:
                more = [found[stratum].is_answered.astype(float) - one[stratum].is_answered for one in answered[rule]]
                by_task = (sum(more) / len(more)).groupby("task")
                about[rule] = 100 * float(by_task.mean().mean())
            rows.append(about | {f"seconds, {name}": taken for name, taken in seconds.items()})
    return rows


def interval(values: pd.Series, by: pd.Series) -> str:
    """The mean and its 95 % interval over models and averages, which are drawn again together (bootstrap)."""
    generator, cells = np.random.default_rng(0), [own.to_numpy() for _, own in values.groupby(by)]
    means = [
        np.concatenate([cells[place] for place in generator.integers(len(cells), size=len(cells))]).mean()
        for _ in range(2000)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--average", type=float, action="append", choices=PAIRS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for model in arguments.models:
        for average in arguments.average or PAIRS:
            rows += replay(read_study(arguments.study), model, average, Results(arguments.results))
            write_json(rows, arguments.out)
            print(json.dumps([row for row in rows[-9:] if row["kept"] == row["stratum"]], indent=1), flush=True)
    table = pd.DataFrame(rows)
    cell = table.model + "/" + table.average.astype(str)
    for name, own in (("kept stratum", table.kept == table.stratum), ("other strata", table.kept != table.stratum)):
        for rule in SIMPLE:
            print(f"{name}, points more than {rule}: {interval(table[rule][own], cell[own])}")


if __name__ == "__main__":
    main()
