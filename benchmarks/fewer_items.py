"""How many items does a precision take? ``python benchmarks/fewer_items.py config/demo.yaml results``

A finished study with its answers is replayed: each variant is asked items in the order that is the same for all, until
the mean difference of a stratum from its original has the standard error that was asked for. Beside it the items that
take it where nothing is known of an item but the differences, and how far the estimates lie from those of all items.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.evaluation.blocks import FIRST, STEPS
from stratalaw.layout import Results
from stratalaw.planning.forecasts import gaps
from stratalaw.sampling.difference import Difference, estimated_difference, known_of, share_needed
from stratalaw.sampling.order import places
from stratalaw.seals import read_table
from stratalaw.study import read_study
from stratalaw.study.variants import BASELINE_NAME

GOALS = (0.02, 0.015, 0.01)


def asked_until(
    differences: list[np.ndarray], known: list[np.ndarray], order: list[np.ndarray], goal: float
) -> tuple[float, list[Difference]]:
    """The share at which a stratum stops, and its benchmarks' differences; one array for each benchmark."""
    share = np.ceil(FIRST * len(order) / sum(map(len, order)) * STEPS) / STEPS
    while True:
        share = min(share, 1.0)
        found = [
            estimated_difference(np.where(place < share, own, np.nan), about)
            for own, about, place in zip(differences, known, order, strict=True)
        ]
        if share == 1 or np.sqrt(sum(one.variance for one in found)) / len(found) <= goal:
            return share, found
        share = max(share + 1 / STEPS, np.ceil(share_needed(found, goal) * STEPS) / STEPS)


def replayed(model: str, stratum: str, variants: list[str], results: Results) -> list[dict[str, object]]:
    requests, _ = read_table(results.requests(model, stratum), "requests")
    answers, _ = read_table(results.answers(model, BASELINE_NAME, stratum), "answers")
    original, _ = read_table(results.scores(model, BASELINE_NAME, stratum), "scores")
    original = original.merge(gaps(requests, answers.log_likelihood), on=["task", "document"], how="left")
    own = [rows for _, rows in original.groupby("task", sort=False)]
    order = [places(rows.task, rows.document) for rows in own]
    knowns = {"mean alone": [known_of(rows)[:, :0] for rows in own], "margins": [known_of(rows) for rows in own]}
    lines: list[dict[str, object]] = []
    for variant in variants:
        scores, _ = read_table(results.scores(model, variant, stratum), "scores")
        scores = scores.set_index(["task", "document"]).score
        differences = [
            scores.loc[list(zip(r.task, r.document, strict=True))].to_numpy() - r.score.to_numpy() for r in own
        ]
        whole = float(np.mean([part.mean() for part in differences]))
        for goal in GOALS:
            for name, known in knowns.items():
                share, found = asked_until(differences, known, order, goal)
                lines.append(
                    {
                        "bits": int(variant[1]),
                        "stratum": stratum,
                        "goal": 100 * goal,
                        "known": name,
                        "share": share,
                        "missed": float(np.mean([one.mean for one in found])) - whole,
                        "left_out": np.sqrt(sum(one.left_out for one in found)) / len(found),
                    }
                )
    return lines


def main(study_file: Path, results: Results) -> None:
    study = read_study(study_file)
    lines = [
        line
        for model in study.models
        for stratum in study.evaluation.strata
        for line in replayed(
            model.name,
            stratum,
            [variant for of, variant in study.variant_names() if of == model.name and variant != BASELINE_NAME],
            results,
        )
    ]
    table = pd.DataFrame(lines)
    sampled = table[table.share < 1].assign(held=lambda own: own.missed.abs() < 1.96 * own.left_out)
    shares = table.pivot_table(index=["goal", "bits"], columns="known", values="share") * 100
    missed = sampled[sampled.known == "margins"].groupby(["goal", "bits"])
    summary = shares.assign(
        bias=missed.missed.mean() * 100,
        error=missed.missed.apply(lambda own: np.sqrt((own**2).mean())) * 100,
        said=missed.left_out.apply(lambda own: np.sqrt((own**2).mean())) * 100,
        holds=missed.held.mean() * 100,
        strata=missed.size(),
    )
    print(summary.round(1).reset_index().to_markdown(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Results(Path(sys.argv[2])))
