"""The shapes of a study's models: from weights, from a folder's configuration, from what is shipped, or from the Hub.

Reading them from weights needs none of the pipeline's packages; those are imported where they are needed.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stratalaw.layout import Results
from stratalaw.models.empty import check_weights, empty_model, tensors_to_store
from stratalaw.models.folder import CONFIG, INDEX, WEIGHTS, ModelError, check_model, distinct_shapes, read_config
from stratalaw.models.shapes import (
    Shapes,
    check_matrices,
    shapes_of_tensors,
    shapes_of_weights,
    tensors_of_plain,
)
from stratalaw.models.shipped import shipped_models
from stratalaw.models.sources import check_architecture, check_is_pinned, weights_folder
from stratalaw.study import Model, Study, StudyError


def shapes_of_study(
    study: Study, study_file: str, results: Results, configurations: dict[str, dict[str, Any]] | None = None
) -> dict[str, Shapes]:
    """The shapes of every model of a study, by its name.

    ``configurations``: takes those of the models whose shapes are not shipped, by their names.

    Raises:
        StudyError: a model whose shapes are not shipped is not pinned; or one is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
    """
    shapes = {}
    for i, model in enumerate(study.models):
        try:
            if not has_shipped_shapes(model, results):
                check_is_pinned(model, f"models.{i}", study_file)
            shapes[model.name] = shapes_of_model(model, results, configurations)
        except (StudyError, ModelError) as error:
            raise StudyError(f"{study_file}: {error}") from None
    return shapes


def shapes_to_plan_with(study: Study, study_file: str, results: Results) -> dict[str, Shapes]:
    """The shapes of every model of a study, by its name, to plan with: what can be read without the packages of the
    pipeline is, and nothing is checked that only quantizing needs.

    Raises:
        StudyError: a model whose shapes are not shipped is not pinned.
        ModelError: a folder holds no configuration, or a damaged one.
        DownloadError: the configuration of a model cannot be fetched.
    """
    shapes = {}
    for i, model in enumerate(study.models):
        folder = weights_folder(model, results)
        if folder is None and model.source not in shipped_models():
            check_is_pinned(model, f"models.{i}", study_file)
        shapes[model.name] = shapes_of_model(model, results) if folder is None else shapes_of_folder(folder)
    return shapes


def has_shipped_shapes(model: Model, results: Results) -> bool:
    """Whether a model's shapes are taken from those that are shipped: it is on the Hub, and was not fetched yet."""
    return weights_folder(model, results) is None and model.source in shipped_models()


def shapes_of_model(model: Model, results: Results, configurations: dict[str, dict[str, Any]] | None = None) -> Shapes:
    """The shapes of a model: from its weights if they are there, else from its configuration, which may be on the Hub.

    Of a repository whose shapes are shipped, the Hub is not asked. ``configurations``: see ``shapes_of_study``.

    Raises:
        ModelError: there is no configuration, or transformers or gptqmodel does not know the architecture.
        DownloadError: the configuration cannot be fetched.
    """
    folder, configurations = weights_folder(model, results), {} if configurations is None else configurations
    if folder is not None:
        if has_weights(folder):
            check_model(folder)
        check_architecture(folder)
        configurations[model.name] = read_config(folder)
        shapes = shapes_of_folder(folder)
        if has_weights(folder):
            check_matrices(distinct_shapes(folder), read_config(folder), folder)
            if folder != results.model(model.name):  # which the job that fetched it has checked
                check_weights(folder)
        return shapes
    if model.source in shipped_models():
        return shipped_models()[model.source].shapes
    from stratalaw.models.hub import DownloadError, Repository, download_file

    repository = Repository(model.source, commit=model.revision)
    with TemporaryDirectory() as scratch:
        try:
            download_file(repository, CONFIG, Path(scratch) / CONFIG)
        except DownloadError as error:
            raise DownloadError(f"{error} (the shapes of {model.source} are not shipped)") from error
        try:
            check_architecture(Path(scratch))
            configurations[model.name] = read_config(Path(scratch))
            return shapes_of(Path(scratch))
        except ModelError as error:
            raise ModelError(str(error).replace(scratch, repository.page)) from None


def shapes_of_folder(folder: Path) -> Shapes:
    """The shapes of a model in a folder: from its weights if they are there, else from its configuration.

    Raises:
        ModelError: a file is damaged, there is no configuration, or transformers does not know the architecture.
    """
    # Headers of files take milliseconds; building the model of a configuration takes seconds.
    return shapes_of_weights(folder) if has_weights(folder) else shapes_of(folder)


def shapes_of_original(folder: Path) -> Shapes:
    """The shapes of a model in a folder that somebody wants to quantize; as ``shapes_of_folder``.

    Raises:
        ModelError: as there, and where the configuration says that the model is quantized already.
    """
    if "quantization_config" in read_config(folder):
        raise ModelError(f"{folder / CONFIG}: the model is quantized already (quantization_config); name the original")
    return shapes_of_folder(folder)


def has_weights(folder: Path) -> bool:
    """Whether a model's folder holds more than a configuration."""
    return any((folder / name).exists() for name in (WEIGHTS, INDEX))


def shapes_of(config_folder: Path) -> Shapes:
    """The shapes of a causal language model, from its configuration: transformers builds it on the meta device, unless
    it is of a common kind.

    Args:
        config_folder: a folder with the model's ``config.json``; nothing else in it is read.

    Raises:
        ModelError: there is no configuration, or transformers does not know the architecture.
    """
    config = read_config(config_folder)
    if plain := tensors_of_plain(config):  # of types that gptqmodel quantizes whole
        return shapes_of_tensors(plain, config, config_folder)
    stored = tensors_to_store(empty_model(config_folder))
    check_matrices(stored, config, config_folder)
    return shapes_of_tensors(stored, config, config_folder)
