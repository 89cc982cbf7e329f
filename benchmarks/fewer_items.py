"""How many items does a precision take? ``python benchmarks/fewer_items.py config/demo.yaml results [ORDERS]``

A finished study with its answers is replayed, in several random orders of its items: each variant is asked until the
mean difference of a stratum from its original has the standard error that was asked for. Beside the share of the items
that it takes, in percent: what it takes where nothing is known of an item but the differences (``mean alone``), and how
many items of its own each of two models would have to be asked for their accuracies to tell as much (``unpaired``).
``miss``: by how much estimates from some of the items lie beside the difference of all, in points.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.layout import Results
from stratalaw.planning.forecasts import gaps
from stratalaw.sampling.allocation import first_shares, next_shares
from stratalaw.sampling.difference import Difference, estimated_difference, known_of
from stratalaw.seals import read_table
from stratalaw.study import read_study
from stratalaw.study.variants import BASELINE_NAME

Floats = NDArray[np.float64]

GOALS = (0.02, 0.015, 0.01)
ORDERS = 20


@dataclass(frozen=True)
class Benchmark:
    """``scores``: by item and variant, the original among them; ``known``: of its items, see ``known_of``."""

    scores: pd.DataFrame
    known: Floats

    def differences(self, variant: str) -> Floats:
        return (self.scores[variant] - self.scores[BASELINE_NAME]).to_numpy(float)


def benchmarks_of(model: str, stratum: str, variants: list[str], results: Results) -> dict[str, Benchmark]:
    requests, _ = read_table(results.requests(model, stratum), "requests")
    answers, _ = read_table(results.answers(model, BASELINE_NAME, stratum), "answers")
    tables = [read_table(results.scores(model, name, stratum), "scores")[0] for name in (BASELINE_NAME, *variants)]
    original = tables[0].merge(gaps(requests, answers), on=["task", "document"], how="left")
    columns = [table.set_index(["task", "document"]).score for table in tables]
    scores = pd.concat(columns, axis=1, keys=[BASELINE_NAME, *variants])
    return {
        str(task): Benchmark(scores.loc[[task]].loc[list(zip(rows.task, rows.document, strict=True))], known_of(rows))
        for task, rows in original.groupby("task", sort=False)
    }


def asked_until(
    differences: Mapping[str, Floats], known: Mapping[str, Floats], places: Mapping[str, Floats], goal: float
) -> list[Difference]:
    """The differences of a stratum's benchmarks where its asking ends."""
    shares = first_shares({name: len(own) for name, own in differences.items()})
    while True:
        found = {
            name: estimated_difference(np.where(places[name] < shares[name], own, np.nan), known[name])
            for name, own in differences.items()
        }
        enlarged = next_shares(shares, found, goal)
        if enlarged == shares:
            return list(found.values())
        shares = enlarged


def share_of(found: list[Difference]) -> float:
    return sum(one.asked for one in found) / sum(one.items for one in found)


def replayed(benchmarks: dict[str, Benchmark], variant: str, orders: list[dict[str, Floats]]) -> list[dict[str, float]]:
    differences = {name: one.differences(variant) for name, one in benchmarks.items()}
    known = {name: one.known for name, one in benchmarks.items()}
    nothing = {name: own[:, :0] for name, own in known.items()}
    whole = float(np.mean([own.mean() for own in differences.values()]))
    spread = sum(one.scores[[variant, BASELINE_NAME]].var().sum() for one in benchmarks.values()) / len(benchmarks)
    items = sum(len(own) for own in differences.values())
    lines = []
    for goal in GOALS:
        for places in orders:
            found = asked_until(differences, known, places, goal)
            lines.append(
                {
                    "bits": int(variant[1]),
                    "goal": 100 * goal,
                    "share": share_of(found),
                    "mean alone": share_of(asked_until(differences, nothing, places, goal)),
                    "unpaired": spread / goal**2 / items,
                    "miss": float(np.mean([one.mean for one in found])) - whole,
                    "left out": np.sqrt(sum(one.left_out for one in found)) / len(found),
                }
            )
    return lines


def main(study_file: Path, results: Results, count: int) -> None:
    study, random = read_study(study_file), np.random.default_rng(0)
    lines = []
    for model in study.models:
        names = [name for of, name in study.variant_names() if of == model.name and name != BASELINE_NAME]
        for stratum in study.evaluation.strata:
            benchmarks = benchmarks_of(model.name, stratum, names, results)
            orders = [{name: random.random(len(one.known)) for name, one in benchmarks.items()} for _ in range(count)]
            lines += [line for name in names for line in replayed(benchmarks, name, orders)]
    table = pd.DataFrame(lines)
    shares = 100 * table.groupby(["goal", "bits"])[["share", "mean alone", "unpaired"]].mean()
    some = table[table.share < 1].assign(holds=lambda own: own.miss.abs() < 1.96 * own["left out"])
    missed = some.groupby(["goal", "bits"])
    summary = shares.assign(
        bias=100 * missed.miss.mean(),
        miss=100 * missed.miss.apply(lambda own: np.sqrt((own**2).mean())),
        said=100 * missed["left out"].apply(lambda own: np.sqrt((own**2).mean())),
        holds=100 * missed.holds.mean(),
    )
    print(summary.round(1).reset_index().to_markdown(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Results(Path(sys.argv[2])), int(sys.argv[3]) if len(sys.argv) > 3 else ORDERS)
