"""What a study needs before anything runs: checked first, so that a mistake costs seconds and not a night."""

from __future__ import annotations

import re
from pathlib import Path

from stratalaw.models import ModelError, check_model, model_files
from stratalaw.study import Calibration, Model, Study, StudyError

REPOSITORY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")


def check_inputs(study: Study, study_file: str) -> None:
    """Check the models' folders, the calibration corpus and the names of the tasks; what the Hub has is pinned.

    Raises:
        StudyError: something is missing, damaged or not pinned; one line names the file and the key.
    """
    from stratalaw.tasks import task_manager

    try:
        for i, model in enumerate(study.models):
            if model.revision is None:
                check_source(model, f"models.{i}", study_file)
        check_corpus(study.calibration, study_file)
        task_manager(study.evaluation)
    except (LookupError, ModelError) as error:
        raise StudyError(f"{study_file}: {error.args[0]}") from None


def check_source(model: Model, key: str, study_file: str) -> None:
    """Refuse a model without a revision that is no folder, or not a whole one."""
    check_is_pinned(model, key, study_file)
    if not Path(model.source).is_dir():
        raise LookupError(f"{key}.source: there is no folder {model.source}")
    check_model(Path(model.source))


def check_is_pinned(model: Model, key: str, study_file: str) -> None:
    """Refuse a model that can only be a repository of the Hub, and has no revision."""
    if is_unpinned(model):
        raise LookupError(
            f"{key}: there is no folder {model.source}, and for a repository of the Hub the revision is missing; "
            f"run: stratalaw pin {study_file}"
        )


def check_corpus(calibration: Calibration, study_file: str) -> None:
    """Refuse a corpus that is not on this machine, or in a data set without a revision."""
    if calibration.dataset is None and not Path(calibration.corpus).is_file():
        raise LookupError(f"calibration.corpus: there is no file {calibration.corpus}")
    if calibration.dataset is not None and calibration.revision is None:
        raise LookupError(
            f"calibration: the revision of {calibration.dataset} is missing; run: stratalaw pin {study_file}"
        )


def is_unpinned(model: Model) -> bool:
    """Whether a model's source can only be a repository of the Hub, and its commit is not given."""
    names_repository = REPOSITORY_NAME.fullmatch(model.source) is not None
    return model.revision is None and names_repository and not Path(model.source).is_dir()


def files_of(model: Model) -> list[Path]:
    """The files on this machine that a model is made of; none for one that comes from the Hub."""
    return model_files(Path(model.source)) if model.revision is None else []


def corpus_file(calibration: Calibration) -> str:
    """Where the calibration corpus is, or will be once it is fetched."""
    if calibration.dataset is None:
        return calibration.corpus
    repository = f"{calibration.dataset.replace('/', '--')}@{calibration.revision}"
    return f"results/corpora/{repository}/{calibration.corpus}"
