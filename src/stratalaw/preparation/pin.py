"""Commits of what a study takes from the Hub, written into its file beside the names; nothing else of it changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from stratalaw.files import appears_whole
from stratalaw.models.hub import Repository, newest_commit
from stratalaw.models.sources import is_unpinned
from stratalaw.study import Study, StudyError, read_study


@dataclass(frozen=True)
class Pinned:
    """A repository with its commit, and the key of the study (``models.0.source``) that names it."""

    key: str
    repository: Repository


def pin(study_file: Path) -> list[Pinned]:
    """Write the newest commit of every repository that has none into a study's file; comments and layout stay.

    Raises:
        StudyError: the file is not a study, or is laid out so that a revision cannot be added.
        DownloadError: the Hub cannot be reached or has no such repository; the file is as it was.
    """
    study = read_study(study_file)
    try:
        missing = list(unpinned(study))
    except StudyError as error:
        raise StudyError(f"{study_file}: {error}") from None
    commits = {
        repository: newest_commit(repository) for repository in dict.fromkeys(repository for _, repository in missing)
    }
    pinned = [Pinned(key, replace(repository, commit=commits[repository])) for key, repository in missing]
    if not pinned:
        return []
    try:
        text = with_revisions(study_file.read_text(), pinned)
    except StudyError as error:
        raise StudyError(f"{study_file}: {error}") from None
    with appears_whole(study_file.resolve()) as unfinished:
        unfinished.write_text(text)
    return pinned


def unpinned(study: Study) -> Iterator[tuple[str, Repository]]:
    """The repositories without a commit, with the keys that name them.

    Raises:
        StudyError: lm-eval has no such task, or a task's data set cannot be told, or would be taken for a folder.
    """
    from stratalaw.evaluation.tasks import check_names, data_set_of, task_manager

    for i, model in enumerate(study.models):
        if is_unpinned(model):
            yield f"models.{i}.source", Repository(model.source)
        for k, checkpoint in enumerate(model.checkpoints):
            if is_unpinned(checkpoint):
                yield f"models.{i}.checkpoints.{k}.source", Repository(checkpoint.source)
    calibration = study.calibration
    if calibration.dataset is not None and calibration.revision is None:
        yield "calibration.dataset", Repository(calibration.dataset, "dataset")
    manager = task_manager(study.evaluation)
    check_names(manager, study.evaluation)
    for stratum, benchmarks in study.evaluation.strata.items():
        for i, benchmark in enumerate(benchmarks):
            if benchmark.revision is None and (data_set := data_set_of(manager, benchmark.task)) is not None:
                yield f"evaluation.strata.{stratum}.{i}.task", Repository(data_set, "dataset")


def with_revisions(text: str, pinned: list[Pinned]) -> str:
    """A study's text with ``revision: COMMIT`` after the value of each key."""
    root = yaml.compose(text)
    assert root is not None  # the text was read as a study
    insertions = [insertion(text, root, repository) for repository in pinned]
    for place, added in sorted(insertions, reverse=True):  # from the end, so that places before it stay
        text = text[:place] + added + text[place:]
    return text


def insertion(text: str, root: yaml.Node, pinned: Pinned) -> tuple[int, str]:
    """Where in a study's text a revision goes, and the text to insert.

    Raises:
        StudyError: the key is not where it is used, but merged in from elsewhere.
    """
    key_node, value, is_in_braces = root, root, False
    for part in pinned.key.split("."):
        if isinstance(value, yaml.SequenceNode):
            value = value.value[int(part)]
            continue
        entries = [(key, node) for key, node in value.value if key.value == part]
        if not entries:
            raise StudyError(f"{pinned.key}: it is merged in from elsewhere; write it out to have it pinned")
        is_in_braces = isinstance(value, yaml.MappingNode) and bool(value.flow_style)
        key_node, value = entries[0]
    revision = f"revision: {pinned.repository.commit}"
    if is_in_braces:
        return value.end_mark.index, f", {revision}"
    end_of_line = text.find("\n", value.end_mark.index)
    if end_of_line < 0:
        end_of_line = len(text)
    return end_of_line, "\n" + " " * key_node.start_mark.column + revision
