"""The shapes of a study's models: from weights, from a folder's configuration, from what is shipped, or from the Hub.

Reading them from weights needs none of the pipeline's packages; those are imported where they are needed.
"""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from stratalaw.layout import Results
from stratalaw.models.folder import CONFIG, INDEX, WEIGHTS, ModelError, check_model, read_config
from stratalaw.models.shapes import Matrix, Shapes, shapes_of_weights
from stratalaw.models.shipped import shipped_models
from stratalaw.models.sources import check_architecture, check_is_pinned, weights_folder
from stratalaw.study import Model, Study, StudyError


def shapes_of_study(study: Study, study_file: str, results: Results) -> dict[str, Shapes]:
    """The shapes of every model of a study, by its name.

    Raises:
        StudyError: a model whose shapes are not shipped is not pinned; or one is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
    """
    shapes = {}
    for i, model in enumerate(study.models):
        try:
            if not has_shipped_shapes(model, results):
                check_is_pinned(model, f"models.{i}", study_file)
            shapes[model.name] = shapes_of_model(model, results)
        except (StudyError, ModelError) as error:
            raise StudyError(f"{study_file}: {error}") from None
    return shapes


def has_shipped_shapes(model: Model, results: Results) -> bool:
    """Whether a model's shapes are taken from those that are shipped: it is on the Hub, and was not fetched yet."""
    return weights_folder(model, results) is None and model.source in shipped_models()


def shapes_of_model(model: Model, results: Results) -> Shapes:
    """The shapes of a model: from its weights if they are there, else from its configuration, which may be on the Hub.

    Of a repository whose shapes are shipped, the Hub is not asked.

    Raises:
        ModelError: there is no configuration, or transformers or gptqmodel does not know the architecture.
        DownloadError: the configuration cannot be fetched.
    """
    folder = weights_folder(model, results)
    if folder is not None:
        if has_weights(folder):
            check_model(folder)
        check_architecture(folder)
        return shapes_of_folder(folder)
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


def has_weights(folder: Path) -> bool:
    """Whether a model's folder holds more than a configuration."""
    return any((folder / name).exists() for name in (WEIGHTS, INDEX))


def shapes_of(config_folder: Path) -> Shapes:
    """The shapes of a causal language model, from its configuration: transformers builds it on the meta device.

    Args:
        config_folder: a folder with the model's ``config.json``; nothing else in it is read.

    Raises:
        ModelError: there is no configuration, or transformers does not know the architecture.
    """
    read_config(config_folder)
    for talkative in ("torchao", "torch.utils._pytree"):  # of extensions that nothing here needs
        logging.getLogger(talkative).setLevel(logging.ERROR)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(config_folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    except ImportError:
        raise
    except Exception as error:  # whatever code of many authors makes of a configuration that fits no model
        raise ModelError(f"{config_folder / CONFIG}: {' '.join(str(error).split())[:200]}") from None
    outputs = model.get_output_embeddings()
    matrices = tuple(
        Matrix(name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not outputs
    )
    if not matrices:
        raise ModelError(f"{config_folder / CONFIG}: a model without linear maps, which GPTQ quantizes")
    quantized = sum(matrix.in_features * matrix.out_features for matrix in matrices)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    embeddings = {id(module.weight): module.weight.numel() for module in (model.get_input_embeddings(), outputs)}
    return Shapes(
        matrices=matrices,
        n_other=model.num_parameters() - quantized,
        n_embedding=sum(embeddings.values()),
        n_layers=config.num_hidden_layers,
        cache_width=2 * config.num_hidden_layers * heads * head_size,
        max_length=config.max_position_embeddings,
        hidden_size=config.hidden_size,
    )
