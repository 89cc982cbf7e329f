"""The documents of a stratum's tasks, kept with its requests: scores need neither the Hub nor anybody's cache for them.

What lm-eval loads while requests are recorded is taken down, and handed to it again when answers are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
from lm_eval.api.task import ConfigurableTask

from stratalaw.study import StudyError


class NotedSplits(datasets.DatasetDict):  # type: ignore[misc]
    """The splits of a data set; those that are looked at are noted."""

    def __init__(self, splits: Mapping[str, datasets.Dataset], noted: set[str]) -> None:
        super().__init__(splits)
        self._noted = noted

    def __getitem__(self, name: str) -> datasets.Dataset:
        found = super().__getitem__(name)
        self._noted.add(name)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        self._noted.update({name} & self.keys())
        return super().get(name, default)

    def items(self) -> Any:
        self._noted.update(self)
        return super().items()

    def values(self) -> Any:
        self._noted.update(self)
        return super().values()


@dataclass
class Documents:
    """What tasks loaded, by their names, and which splits of it they used."""

    loaded: dict[str, Mapping[str, datasets.Dataset]] = field(default_factory=dict)
    used: dict[str, set[str]] = field(default_factory=dict)

    def table(self) -> pd.DataFrame:
        """One row for each split: ``task``, ``split`` and ``rows`` (an Arrow stream)."""
        rows = [
            {"task": task, "split": split, "rows": as_stream(self.loaded[task][split])}
            for task, splits in self.used.items()
            for split in sorted(splits)
        ]
        return pd.DataFrame(rows, columns=["task", "split", "rows"])


@contextmanager
def recorded_documents() -> Iterator[Documents]:
    """Take down what lm-eval's tasks load within.

    Raises:
        StudyError: a task streams its data set, of which nothing can be kept.
    """
    documents, download = Documents(), ConfigurableTask.download

    def download_and_record(task: ConfigurableTask, *arguments: Any, **options: Any) -> None:
        download(task, *arguments, **options)
        name, splits = task.config.task, task.dataset
        if not isinstance(splits, Mapping) or not all(isinstance(rows, datasets.Dataset) for rows in splits.values()):
            raise StudyError(f"{name}: its data set is streamed or has no splits: what is scored could not be kept")
        used = documents.used.setdefault(name, set())
        documents.loaded[name] = dict(splits)
        task.dataset = NotedSplits(documents.loaded[name], used)

    with downloading_by(download_and_record):
        yield documents


@contextmanager
def replayed_documents(table: pd.DataFrame) -> Iterator[None]:
    """Hand lm-eval's tasks what was recorded for them, in place of a download; ``table``: of ``Documents``.

    Raises:
        StudyError: nothing was recorded for a task.
    """
    recorded = {name: dict(zip(rows.split, rows.rows, strict=True)) for name, rows in table.groupby("task")}

    def replay(task: ConfigurableTask, *_: Any, **__: Any) -> None:
        name = task.config.task
        if name not in recorded:
            raise StudyError(f"{name}: its documents were not recorded; the tasks have changed since the requests were")
        task.dataset = datasets.DatasetDict({split: from_stream(rows) for split, rows in recorded[name].items()})

    with downloading_by(replay):
        yield


@contextmanager
def downloading_by(download: Callable[..., None]) -> Iterator[None]:
    """Replace what every task of lm-eval loads its data set by."""
    former, ConfigurableTask.download = ConfigurableTask.download, download
    try:
        yield
    finally:
        ConfigurableTask.download = former


def as_stream(rows: datasets.Dataset) -> bytes:
    """A data set as a compressed Arrow stream, whose schema keeps the kinds of its columns."""
    table = rows.flatten_indices().data.table if rows._indices is not None else rows.data.table
    schema = table.schema.with_metadata(rows.features.arrow_schema.metadata)
    content = pa.BufferOutputStream()
    with pa.ipc.new_stream(content, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table.replace_schema_metadata(schema.metadata))
    return bytes(content.getvalue())


def from_stream(content: bytes) -> datasets.Dataset:
    """What ``as_stream`` wrote, in memory."""
    return datasets.Dataset(datasets.table.InMemoryTable(pa.ipc.open_stream(content).read_all()))
