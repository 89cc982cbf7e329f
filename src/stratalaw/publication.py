"""What a study publishes, so that a stranger can check it: tables, figures, what is covered, and what it took."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stratalaw.coverage import coverage
from stratalaw.files import appears_whole
from stratalaw.laws.draws import draw_spread
from stratalaw.quantization import AUDIT
from stratalaw.study import Study
from stratalaw.variants import BASELINE_NAME

TABLES = ("exponents.csv", "forms.csv", "verdicts.csv")
SIGNIFICANT = "%.6g"  # accuracies are shares of a thousand items


class PublicationError(ValueError):
    """A study that cannot be published; the message is one line."""


def publish(study: Study, results: Path, folder: Path) -> None:
    """Write a study's tables and figures to a folder, which appears whole or not at all.

    ``observations.csv``, ``exponents.csv``, ``forms.csv``, ``verdicts.csv``, ``figures/*.svg``; ``coverage.csv``: of
    each model and stratum the variants that the study names and those that were observed; ``seconds.csv``: of each
    variant the seconds of its jobs and the model's parameters; ``draws.csv``: the spread between draws of the
    calibration set, where there are several. A ``README.md`` in the folder is kept.

    Raises:
        PublicationError: the study has not been run.
    """
    own = results / "studies" / study.name
    if not (own / "observations.parquet").exists():
        raise PublicationError(f"{own}: no observations; run the study first (snakemake --config study=…)")
    observations = pd.read_parquet(own / "observations.parquet")
    with appears_whole(folder) as unfinished:
        unfinished.mkdir()
        observations.to_csv(unfinished / "observations.csv", index=False, float_format=SIGNIFICANT)
        coverage(study, observations).to_csv(unfinished / "coverage.csv", index=False)
        seconds(study, observations, results).to_csv(unfinished / "seconds.csv", index=False)
        if not (spread := draw_spread(observations)).empty:
            spread.to_csv(unfinished / "draws.csv", index=False, float_format=SIGNIFICANT)
        for name in TABLES:
            shutil.copy(own / name, unfinished)
        (unfinished / "figures").mkdir()
        for path in sorted((own / "figures").glob("*.svg")):
            shutil.copy(path, unfinished / "figures")
        if (folder / "README.md").exists():
            shutil.copy(folder / "README.md", unfinished)


def seconds(study: Study, observations: pd.DataFrame, results: Path) -> pd.DataFrame:
    """Of each observed variant: model, variant, n_params, seconds to quantize, answer and score it, and their sum."""
    sizes = observations.groupby("model").n_params.first()
    observed = set(zip(observations.model, observations.variant, strict=True))
    rows = [
        {"model": row.model, "variant": row.variant, "n_params": sizes[row.model]}
        | dict(_seconds_of(results, row.model, row.variant))
        for row in study.variants().itertuples()
        if (row.model, row.variant) in observed
    ]
    table = pd.DataFrame(rows)
    return table.assign(seconds=table[["quantize", "answer", "score"]].sum(axis=1).round(3))


def _seconds_of(results: Path, model: str, variant: str) -> Iterator[tuple[str, float]]:
    audit = results / "checkpoints" / model / variant / AUDIT
    yield "quantize", 0.0 if variant == BASELINE_NAME else json.loads(audit.read_text())["seconds"]
    for name, stage in (("answer", "loglikelihoods"), ("score", "scores")):
        measured = pd.read_csv(results / "benchmarks" / stage / model / f"{variant}.tsv", sep="\t")
        yield name, round(float(measured.s.iloc[0]), 3)
