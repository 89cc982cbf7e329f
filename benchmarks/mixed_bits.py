"""What bits placed by measured knowledge keep, at equal memory, on items that had no part in placing them.

    python benchmarks/mixed_bits.py STUDY.yaml RESULTS OUT.json MODEL ... [--average 3.5] [--draw 1]

The study must have been run as far as requests and checkpoints of 2, 3 and 4 bits of each model, with groups of 128 and
32 samples, in each draw that is asked for. For 3.5, 3.0 and 2.5 average bits and each stratum in turn, bits are
allocated as ``stratalaw allocate`` does, and compared with: the nearest uniform variant that takes no more, random
halves, GPTQ's own loss, and the error of each matrix's outputs on the items by which bits are allocated. Groups swap
dense weights of two checkpoints; no allocation is quantized anew. Benchmarks that are answered by writing have no
margins and are left out. It runs on a GPU where there is one, and OUT.json grows with each draw and average.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stratalaw.evaluation.answers import load_dense
from stratalaw.files import write_json
from stratalaw.jobs.allocation import best_measured, few
from stratalaw.jobs.sensitivities import losses_of_gptq, more_bytes, subject_of
from stratalaw.jobs.stages import device
from stratalaw.layout import Results
from stratalaw.planning.allocation import chosen_groups, neighbours, shrunk
from stratalaw.sensitivities.first_order import first_order_gains
from stratalaw.sensitivities.margins import CHOOSING, HELD_OUT
from stratalaw.sensitivities.measuring import Subject, measured_gains
from stratalaw.study import Study, read_study

PAIRS = {3.5: (3, 4), 3.0: (2, 4), 2.5: (2, 3)}
RANDOM, SIMPLE = 5, ("nearest uniform", "random half", "GPTQ's loss", "output error", "knapsack alone")
ITEMS, HELD_OUT_ITEMS = 300, 600


def variant_of(bits: int, draw: int) -> str:
    return f"w{bits}-g128-c32-s{draw}"


def output_errors(subject: Subject, original: torch.nn.Module) -> pd.Series:
    """By how much the squared error of each group's outputs is smaller with more bits, on the inputs that the smaller
    checkpoint gives it."""
    errors = dict.fromkeys(subject.groups, 0.0)

    def note(group: str, name: str, module: Any, inputs: Any, output: torch.Tensor) -> None:
        exact = torch.nn.functional.linear(inputs[0], original.get_parameter(name))
        better = torch.nn.functional.linear(inputs[0], subject.other[name].to(inputs[0].device))
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


def replay(study: Study, model: str, average: float, draw: int, results: Results) -> list[dict[str, Any]]:
    """One row for each stratum that is kept and stratum that is looked at, with points more than by each other rule."""
    low, high = (variant_of(bits, draw) for bits in PAIRS[average])
    subjects = subject_of(study, model, low, high, {CHOOSING: ITEMS, HELD_OUT: HELD_OUT_ITEMS}, results)
    choosing, judging = subjects[CHOOSING], subjects[HELD_OUT]
    bytes_more = pd.Series(more_bytes(model, low, high, results)).loc[list(choosing.groups)]
    spare = int(bytes_more.sum() * (average - PAIRS[average][0]) / (PAIRS[average][1] - PAIRS[average][0]))
    started = time.perf_counter()
    table = measured_gains(choosing)
    seconds = {"measured": time.perf_counter() - started}
    started = time.perf_counter()
    estimated = first_order_gains(choosing)
    seconds["first order"] = time.perf_counter() - started
    both = table.merge(estimated, on=["group", "stratum"])
    gains, errors = (
        table.pivot(index="group", columns="stratum", values=column).loc[bytes_more.index]
        for column in ("gain", "stderr")
    )
    rules = {
        "GPTQ's loss": losses_of_gptq(model, low, high, results),
        "output error": output_errors(choosing, load_dense(results.model(model), device())),
    }
    by_rule = {
        name: chosen_groups(rule.loc[bytes_more.index].to_frame("x"), bytes_more, spare, {"x": 1.0}, {})
        for name, rule in rules.items()
    }
    answered = {name: [judging.answered(groups)] for name, groups in by_rule.items()}
    answered["random half"] = [judging.answered(groups) for groups in random_groups(bytes_more, spare)]
    answered["nearest uniform"] = [judging.answered([])]
    if average == 3.0:
        uniform = subject_of(study, model, variant_of(3, draw), high, {HELD_OUT: HELD_OUT_ITEMS}, results)[HELD_OUT]
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
            about: dict[str, Any] = {"model": model, "average": average, "draw": draw, "kept": kept, "stratum": stratum}
            about["accuracy"], about["is simple"] = accuracy, set(chosen) == set(by_rule["GPTQ's loss"])
            about["rank correlation"] = float(ranks.gain_x.corr(ranks.gain_y, method="spearman"))
            for rule in SIMPLE:
                more = [found[stratum].is_answered.astype(float) - one[stratum].is_answered for one in answered[rule]]
                by_task = (sum(more) / len(more)).groupby("task")
                about[rule] = 100 * float(by_task.mean().mean())
            rows.append(about | {f"seconds, {name}": taken for name, taken in seconds.items()})
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
        ("all of them", table),
    ]
    for name, rows in parts:
        own = rows.kept == rows.stratum
        as_simple = rows["is simple"][own].mean()
        print(f"{name}: {rows.model.nunique()} models, as by GPTQ's loss in {as_simple:.0%} of the cases")
        for strata, chosen in (("kept stratum", own), ("other strata", ~own)):
            for rule in SIMPLE:
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
    for model, draw, average in product(arguments.models, arguments.draw or [0], arguments.average or PAIRS):
        started = time.perf_counter()
        rows += replay(study, model, average, draw, results)
        write_json(rows, arguments.out)
        print(f"{model}, draw {draw}, {average} bits: {time.perf_counter() - started:.0f} s", flush=True)
    summarize(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
