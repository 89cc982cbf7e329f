"""What a study needs before anything runs: checked first, so that a mistake costs seconds and not a night."""

from __future__ import annotations

from pathlib import Path

from stratalaw.models import ModelError, check_model
from stratalaw.study import Study, StudyError


def check_inputs(study: Study, study_file: str) -> None:
    """Check the models' folders, the calibration corpus and the names of the tasks.

    Raises:
        StudyError: something is missing or damaged; one line names the file and the key.
    """
    from stratalaw.tasks import task_manager

    try:
        for i, model in enumerate(study.models):
            key = f"models.{i}.source"
            if not Path(model.source).is_dir():
                raise LookupError(f"{key}: there is no folder {model.source}")
            check_model(Path(model.source))
        if not Path(study.calibration.corpus).is_file():
            raise LookupError(f"calibration.corpus: there is no file {study.calibration.corpus}")
        task_manager(study.evaluation)
    except (LookupError, ModelError) as error:
        raise StudyError(f"{study_file}: {error.args[0]}") from None
