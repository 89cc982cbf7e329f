"""The shapes of a study's models: from weights, from a folder's configuration, or from the Hub."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from stratalaw.layout import Results
from stratalaw.models.folder import CONFIG, INDEX, WEIGHTS, ModelError
from stratalaw.models.hub import Repository, download_file
from stratalaw.models.shapes import Shapes, shapes_of, shapes_of_weights
from stratalaw.models.sources import check_architecture, check_is_pinned, weights_folder
from stratalaw.study import Model, Study, StudyError


def shapes_of_study(study: Study, study_file: str, results: Results) -> dict[str, Shapes]:
    """The shapes of every model of a study, by its name.

    Raises:
        StudyError: a model is not pinned, is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
    """
    shapes = {}
    for i, model in enumerate(study.models):
        try:
            check_is_pinned(model, f"models.{i}", study_file)
            shapes[model.name] = shapes_of_model(model, results)
        except (StudyError, ModelError) as error:
            raise StudyError(f"{study_file}: {error}") from None
    return shapes


def shapes_of_model(model: Model, results: Results) -> Shapes:
    """The shapes of a model: from its weights if they are there, else from its configuration, which may be on the Hub.

    Raises:
        ModelError: there is no configuration, or transformers or gptqmodel does not know the architecture.
        DownloadError: the configuration cannot be fetched.
    """
    folder = weights_folder(model, results)
    if folder is not None:
        check_architecture(folder)
        # Headers of files take milliseconds; building the model of a configuration takes seconds.
        has_weights = any((folder / name).exists() for name in (WEIGHTS, INDEX))
        return shapes_of_weights(folder) if has_weights else shapes_of(folder)
    repository = Repository(model.source, commit=model.revision)
    with TemporaryDirectory() as scratch:
        download_file(repository, CONFIG, Path(scratch) / CONFIG)
        try:
            check_architecture(Path(scratch))
            return shapes_of(Path(scratch))
        except ModelError as error:
            raise ModelError(str(error).replace(scratch, repository.page)) from None
