"""Scores of items from folders: of a variant of a study, or of lm-eval's own results with samples."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stratalaw.damage.memory import weight_bytes
from stratalaw.damage.table import DamageError, Pair, compare, damage_table
from stratalaw.layout import Results
from stratalaw.seals import read_parquet
from stratalaw.study.variants import is_mixed

SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")  # lm-eval: samples_TASK_TIMESTAMP.jsonl
USUAL_METRIC = "acc"
SCORES = "scores"  # the kind of the tables, and the folder above the models'
NO_STRATUM = "tasks"  # lm-eval knows no strata
WANTED = (
    "a folder results/scores/MODEL/VARIANT of a study, or one of lm-eval's with samples_TASK_TIMESTAMP.jsonl "
    "(--output_path FOLDER --log_samples)"
)


@dataclass(frozen=True)
class Scored:
    """What was measured of one variant.

    Attributes:
        folder: as it was given.
        model: of a study; empty where that is not known.
        variant: its name, or the folder's where there is no other.
        items: stratum, task, document, score, and from lm-eval ``hash`` (of the document).
        bytes: of its weights; None where unknown.
        metrics: by task, what the scores are, where lm-eval's own results say so.
    """

    folder: Path
    model: str
    variant: str
    items: pd.DataFrame
    bytes: int | None
    metrics: dict[str, str]

    @property
    def full_name(self) -> str:
        return f"{self.model}/{self.variant}" if self.model else self.variant


def compare_folders(folders: Sequence[Path], metric: str | None = None) -> tuple[pd.DataFrame, dict[str, str]]:
    """The damage table of all folders but the first, each beside the first, and the metric of each task.

    Args:
        folders: see ``read_scored``.
        metric: see ``read_scored``.

    Raises:
        DamageError: fewer than two folders, a folder without scores, or not the same items or metrics.
    """
    if len(folders) < 2:
        raise DamageError("compare takes two folders or more: the original, and what is compared with it")
    original, *others = (read_scored(folder, metric) for folder in folders)
    rows = [row for other in others for row in _compare(original, other)]
    return damage_table(rows), original.metrics


def _compare(original: Scored, other: Scored) -> list[dict[str, object]]:
    names = other.variant, original.variant
    model = other.model if other.model == original.model else ""
    if not model:
        names = other.full_name, original.full_name
    if len(set(names)) == 1:
        names = str(other.folder), str(original.folder)
    pair = Pair(model, *names, other.bytes, original.bytes)
    for task in original.metrics.keys() & other.metrics.keys():
        if original.metrics[task] != other.metrics[task]:
            raise DamageError(
                f"not the same metric: {task}: {original.metrics[task]} in {pair.original}, {other.metrics[task]} in "
                f"{pair.variant}; choose one with --metric"
            )
    rows = compare(pair, original.items, other.items)
    if "hash" in original.items and "hash" in other.items:
        both = original.items.merge(other.items, on=["task", "document"])
        unlike = both[both.hash_x != both.hash_y]
        if len(unlike):
            item = unlike.iloc[0]
            raise DamageError(
                f"not the same items: {item.task}: document {item.document} has another text (doc_hash) in "
                f"{pair.variant} than in {pair.original} ({len(unlike)} such items)"
            )
    return rows


def read_scored(folder: Path, metric: str | None = None) -> Scored:
    """The scores of one variant.

    Args:
        folder: ``results/scores/MODEL/VARIANT``, or where lm-eval wrote samples (the folder itself or the one with its
            single model); of several files of a task the newest is read.
        metric: of lm-eval's samples, as lm-eval names it (``acc_norm``; ``exact_match,strict-match`` with the filter of
            the answers); a task that lacks it, or all if it is not given, takes ``acc``, or else its first metric that
            is a number.

    Raises:
        DamageError: the folder holds no scores, or a file is damaged.
    """
    tables = sorted(folder.glob("*.parquet"))
    if tables:
        return _of_study(folder, tables)
    for place in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
        if files := _newest_samples(place):
            others = [path for path in folder.glob("*/samples_*.jsonl") if path.parent != place]
            if place != folder and others:
                raise DamageError(f"{folder}: results of several models; name one, such as {place}")
            return _of_lm_eval(folder, files, metric)
    raise DamageError(f"{folder}: no scores; wanted is {WANTED}")


def _of_study(folder: Path, tables: Sequence[Path]) -> Scored:
    place, model, variant = ("", *folder.resolve().parts)[-3:]
    is_of_results = place == SCORES  # or else it was copied, and its path does not say whose scores it holds
    about = {"model": model, "variant": variant} if is_of_results else {}
    parts = []
    for path in tables:
        part = read_parquet(path, SCORES, about | {"stratum": path.stem})
        if part.empty:
            raise DamageError(f"{folder}: no scores, since it could not be quantized")
        if not {"task", "document", "score"} <= set(part.columns):
            raise DamageError(f"{path}: not scores of items; wanted is {WANTED}")
        parts.append(part[["task", "document", "score"]].assign(stratum=path.stem))
    items = pd.concat(parts, ignore_index=True)
    sizes: dict[str, int | None] = {}
    if is_of_results:
        results = Results(folder.resolve().parents[2])
        checkpoint = results.checkpoint(model, variant)
        mixed = {variant: checkpoint} if is_mixed(variant) and checkpoint.exists() else {}
        sizes = weight_bytes(results.model(model), [variant], mixed)
    return Scored(folder, model, variant, items, sizes.get(variant), metrics={})


def _newest_samples(folder: Path) -> dict[str, Path]:
    """By task, the newest file of samples."""
    newest: dict[str, tuple[str, Path]] = {}
    for path in folder.glob("samples_*.jsonl"):
        if found := SAMPLES.fullmatch(path.name):
            task, time = found.groups()
            newest[task] = max(newest.get(task, ("", path)), (time, path))
    return {task: newest[task][1] for task in sorted(newest)}


def _of_lm_eval(folder: Path, files: dict[str, Path], metric: str | None) -> Scored:
    read = {task: _read_samples(path, metric) for task, path in files.items()}
    parts = [table.assign(task=task, stratum=NO_STRATUM) for task, (_, table) in read.items()]
    metrics = {task: chosen for task, (chosen, _) in read.items()}
    if metric is not None and metric not in {
        name for chosen in metrics.values() for name in (chosen, *chosen.split(","))
    }:
        raise DamageError(
            f"{folder}: no task has the metric {metric}; there are {', '.join(sorted(set(metrics.values())))}"
        )
    return Scored(folder, "", folder.resolve().name, pd.concat(parts, ignore_index=True), None, metrics)


def _read_samples(path: Path, wanted: str | None) -> tuple[str, pd.DataFrame]:
    """The metric (with the filter where there are several) of a file of samples, and document, hash and score."""
    rows: dict[str, list[dict[str, object]]] = {}
    filters: dict[str, None] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                sample = json.loads(line)
                kind = str(sample["filter"])
                filters[kind] = None
                for name in sample["metrics"]:
                    if isinstance(sample[name], (bool, int, float)):
                        row = {
                            "document": int(sample["doc_id"]),
                            "hash": sample["doc_hash"],
                            "score": float(sample[name]),
                        }
                        rows.setdefault(f"{name},{kind}", []).append(row)
            except (ValueError, KeyError, TypeError) as error:
                raise DamageError(
                    f"{path}, line {number}: not a sample of lm-eval ({type(error).__name__}: {error})"
                ) from None
    if not rows:
        raise DamageError(f"{path}: no sample has a metric that is a number")
    chosen = next(
        name
        for preferred in (wanted, USUAL_METRIC, *rows)
        for name in rows
        if preferred is not None and preferred in (name, name.partition(",")[0])
    )
    return chosen if len(filters) > 1 else chosen.partition(",")[0], pd.DataFrame(rows[chosen])
