"""What a study publishes, so that a stranger can check it: tables, figures, what is covered, and what it took."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from stratalaw.cost.runs import TIMED, runs_of
from stratalaw.errors import StratalawError
from stratalaw.files import appears_whole, without_formulas
from stratalaw.laws.draws import draw_spread
from stratalaw.layout import LAW_TABLES, Results
from stratalaw.observations.coverage import coverage
from stratalaw.seals import read_table
from stratalaw.study import Study
from stratalaw.study.variants import is_mixed

TIMED_STAGES = ("checkpoints", *TIMED)
TABLES = ("damage.csv", *(f"{name}.csv" for name in LAW_TABLES))
README = "README.md"
PUBLISHED = {"observations.csv", "coverage.csv", "seconds.csv", "draws.csv", *TABLES, "figures", README}
SIGNIFICANT = "%.6g"  # accuracies are shares of a thousand items


class PublicationError(StratalawError):
    """A study that cannot be published; the message is one line."""


def publish(study: Study, results: Results, folder: Path) -> None:
    """Write a study's tables and figures to a folder, which appears whole or not at all.

    ``observations.csv``, ``damage.csv``, the tables of the laws, ``figures/*.svg``;
    ``coverage.csv``: for each model and stratum the variants that the study names and those that were observed;
    ``seconds.csv``: for each variant the seconds of its jobs and the model's parameters; ``draws.csv``: the spread
    between draws of the calibration set, where there are several. A ``README.md`` in the folder is kept.

    Raises:
        PublicationError: the study has not been run, or not to its end; or the folder holds what nobody published.
    """
    source = results.of_study(study.name)
    if not (source / "observations.parquet").exists():
        raise PublicationError(f"{source}: no observations; run the study first (snakemake --configfile …)")
    if missing := [name for name in TABLES if not (source / name).exists()]:
        raise PublicationError(f"{source}: no {missing[0]}; run the study to its end (snakemake --configfile …)")
    if folder.is_dir() and (others := sorted({path.name for path in folder.iterdir()} - PUBLISHED)):
        raise PublicationError(f"{folder}: {others[0]} in it would be removed; name a new folder, or a published one")
    observations, _ = read_table(source / "observations.parquet", "observations", {"study": study.name})
    with appears_whole(folder) as unfinished:
        unfinished.mkdir()
        without_formulas(observations).to_csv(unfinished / "observations.csv", index=False, float_format=SIGNIFICANT)
        without_formulas(coverage(study, observations)).to_csv(unfinished / "coverage.csv", index=False)
        seconds(study, observations, results).to_csv(unfinished / "seconds.csv", index=False)
        # Mixed variants of the same nominal bits differ in more than the draw.
        if not (spread := draw_spread(observations[~observations.variant.map(is_mixed)])).empty:
            without_formulas(spread).to_csv(unfinished / "draws.csv", index=False, float_format=SIGNIFICANT)
        for name in TABLES:
            shutil.copy(source / name, unfinished)
        (unfinished / "figures").mkdir()
        for path in sorted((source / "figures").glob("*.svg")):
            shutil.copy(path, unfinished / "figures")
        if (folder / README).exists():
            shutil.copy(folder / README, unfinished)


def seconds(study: Study, observations: pd.DataFrame, results: Results) -> pd.DataFrame:
    """For each observed variant: model, variant, n_params, seconds of checkpoint, answers, scores, and their sum."""
    sizes = observations.groupby("model").n_params.first()
    observed = set(zip(observations.model, observations.variant, strict=True))
    measured = runs_of(study, results).seconds
    rows = [
        {"model": row["model"], "variant": row["variant"], "n_params": sizes[row["model"]]}
        | {stage: round(measured.get((stage, row["model"], row["variant"]), 0.0), 3) for stage in TIMED_STAGES}
        for row in study.variants().to_dict("records")
        if (row["model"], row["variant"]) in observed
    ]
    table = pd.DataFrame(rows)
    return table.assign(seconds=table[list(TIMED_STAGES)].sum(axis=1).round(3))
