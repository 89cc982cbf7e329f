"""What a study needs before anything runs: checked first, so that a mistake costs seconds rather than a night."""

from __future__ import annotations

from pathlib import Path

from stratalaw.models.folder import ModelError, check_model, distinct_shapes, read_config
from stratalaw.models.shapes import check_matrices, shapes_of_weights
from stratalaw.models.sources import check_architecture, check_checkpoint, check_is_pinned
from stratalaw.study import Calibration, Evaluation, Model, Study, StudyError


def check_inputs(study: Study, study_file: str) -> None:
    """Check the models' folders, the calibration corpus and the names of the tasks; what the Hub has is pinned.

    Raises:
        StudyError: something is missing, damaged or not pinned; one line names the file and the key.
    """
    try:
        for i, model in enumerate(study.models):
            if model.revision is None:
                check_source(model, f"models.{i}", study_file)
            for k, checkpoint in enumerate(model.checkpoints):
                check_checkpoint(checkpoint, f"models.{i}.checkpoints.{k}", study_file)
        check_corpus(study.calibration, study_file)
        check_data_sets(study.evaluation, study_file)
    except (StudyError, ModelError) as error:
        raise StudyError(f"{study_file}: {error}") from None


def check_source(model: Model, key: str, study_file: str) -> None:
    """Refuse a model without a revision that is no folder, or not a whole one."""
    check_is_pinned(model, key, study_file)
    folder = Path(model.source)
    check_model(folder)
    check_architecture(folder)
    shapes_of_weights(folder)  # what jobs ask for rests on them
    check_matrices(distinct_shapes(folder), read_config(folder), folder)


def check_corpus(calibration: Calibration, study_file: str) -> None:
    """Refuse corpora that are not on this machine, or in a data set without a revision."""
    of_study = {"corpus": calibration.corpus} if calibration.corpus and calibration.dataset is None else {}
    for key, file in (of_study | {f"corpora.{name}": file for name, file in calibration.corpora.items()}).items():
        if not Path(file).is_file():
            raise StudyError(f"calibration.{key}: there is no file {file}")
    if calibration.dataset is not None and calibration.revision is None:
        raise StudyError(
            f"calibration: the revision of {calibration.dataset} is missing; run: stratalaw pin {study_file}"
        )


def check_data_sets(evaluation: Evaluation, study_file: str) -> None:
    """Refuse a task that lm-eval does not have or that cannot be scored, and a data set that is on the Hub and has no
    revision, or whose name is that of a folder here."""
    from stratalaw.evaluation.tasks import check_metrics, check_names, data_set_of, task_manager

    manager = task_manager(evaluation)
    check_metrics(manager, evaluation)
    check_names(manager, evaluation)
    for stratum, benchmarks in evaluation.strata.items():
        for benchmark in benchmarks:
            if benchmark.revision is None and (data_set := data_set_of(manager, benchmark.task)) is not None:
                raise StudyError(
                    f"evaluation.strata.{stratum}: {benchmark.task}: the revision of its data set {data_set} is "
                    f"missing; run: stratalaw pin {study_file}"
                )


def task_files(evaluation: Evaluation) -> list[Path]:
    """The files in the folder of tasks, in the order of their names: definitions, items and code."""
    if evaluation.tasks_folder is None:
        return []
    folder = Path(evaluation.tasks_folder)
    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_by_product(path.relative_to(folder)))


def is_by_product(path: Path) -> bool:
    """Whether programs left a file (Python's bytecode, copies of an editor): it comes and goes without a change."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)
