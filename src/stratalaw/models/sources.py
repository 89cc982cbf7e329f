"""Where a study's models come from: a folder on this machine, or a repository of the Hub."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from stratalaw.layout import Results
from stratalaw.models.folder import CONFIG, ModelError, model_files, read_config
from stratalaw.models.installed import source_within
from stratalaw.models.module_tree import known_architectures
from stratalaw.models.packed import checkpoint_files, packing_of
from stratalaw.study import Checkpoint, Model, Study, StudyError

REPOSITORY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
OLD_REPOSITORY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # without an owner, such as gpt2
# Types that gptqmodel 7.6.0 lists, but whose layers in transformers 5.17.0 it cannot run.
FAILING = frozenset({"ernie4_5_moe", "glm4_moe", "glm4_moe_lite"})
# Types whose whole chain a test runs: docs/reference/architectures.md has a line for each.
TESTED = frozenset({
    "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4", "falcon", "gemma", "gemma2",
    "gemma3", "gemma3_text", "glm", "glm4", "gpt2", "gpt_neox", "gptj", "granite", "llama", "mistral", "mixtral",
    "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss",
    "smollm3", "stablelm", "starcoder2",
})  # fmt: skip


def check_is_pinned(model: Model, key: str, study_file: str) -> None:
    """Refuse a model that is neither a folder here nor a repository of the Hub with its revision."""
    if model.revision is not None:
        if not any(pattern.fullmatch(model.source) for pattern in (REPOSITORY_NAME, OLD_REPOSITORY_NAME)):
            raise StudyError(
                f"{key}.source: {model.source} is not the name of a repository of the Hub (owner/name), as its "
                "revision says; a folder has none"
            )
        return
    if is_unpinned(model):
        raise StudyError(
            f"{key}: there is no folder {model.source}, and for a repository of the Hub the revision is missing; "
            f"run: stratalaw pin {study_file}"
        )
    if not Path(model.source).is_dir():
        raise StudyError(f"{key}.source: there is no folder {model.source}")


def check_models_are_pinned(study: Study, study_file: str) -> None:
    """Refuse a study of which a model is not pinned; the message names the first."""
    for i, model in enumerate(study.models):
        check_is_pinned(model, f"models.{i}", study_file)


def check_architecture(folder: Path) -> None:
    """Raise ModelError unless gptqmodel can quantize the model of a folder, without code that comes with the model."""
    path, config = folder / CONFIG, read_config(folder)
    if "quantization_config" in config:
        raise ModelError(f"{path}: its weights are quantized already (quantization_config); give the original model")
    architecture = config.get("model_type")
    if not isinstance(architecture, str) or architecture not in known_architectures():
        raise ModelError(f"{path}: gptqmodel cannot quantize models of the type {str(architecture)[:100]}")
    if architecture in FAILING:
        raise ModelError(f"{path}: gptqmodel fails while it quantizes models of the type {architecture}")
    if architecture not in own_architectures_of_transformers():
        raise ModelError(
            f"{path}: transformers has no models of the type {architecture}; code that comes with a model is not run"
        )


@cache
def own_architectures_of_transformers() -> frozenset[str]:
    """The types of models that are built into transformers, from its source: importing it takes seconds."""
    for statement in source_within("transformers", "models/auto/auto_mappings.py").body:
        match statement:
            case ast.Assign([ast.Name("CONFIG_MAPPING_NAMES")], ast.Call(_, [ast.List(entries)])):
                return frozenset(name for name, _ in map(ast.literal_eval, entries))
    raise ImportError("transformers.models.auto.auto_mappings has no list CONFIG_MAPPING_NAMES", name="transformers")


def is_unpinned(model: Model | Checkpoint) -> bool:
    """Whether the source of a model, or of a checkpoint, can only be a repository of the Hub, and its commit is not
    given."""
    names_repository = REPOSITORY_NAME.fullmatch(model.source) is not None
    return model.revision is None and names_repository and not Path(model.source).exists()


def files_of(model: Model) -> list[Path]:
    """The files on this machine that a model is made of; none for one that comes from the Hub."""
    return model_files(Path(model.source)) if model.revision is None else []


def files_of_checkpoint(checkpoint: Checkpoint) -> list[Path]:
    """The files on this machine that an existing checkpoint is made of; none for one that comes from the Hub.

    Raises:
        ModelError: a file that an index names is not there.
    """
    if checkpoint.revision is not None:
        return []
    source = Path(checkpoint.source)
    return checkpoint_files(source) if source.is_dir() else [source]


def check_checkpoint(checkpoint: Checkpoint, key: str, study_file: str) -> None:
    """Refuse an existing checkpoint that is not there, or in a format that is not read, from its first bytes.

    Raises:
        StudyError: it is not there, or can only be on the Hub and has no revision.
        ModelError: see ``packed.packing_of``; or it has no weights.
    """
    if checkpoint.revision is not None:
        return
    if not Path(checkpoint.source).exists():
        how = f"; if it is a repository of the Hub, run: stratalaw pin {study_file}" if is_unpinned(checkpoint) else ""
        raise StudyError(f"{key}.source: there is no folder or file {checkpoint.source}{how}")
    if checkpoint.file:
        raise StudyError(f"{key}.file: is that of a repository of the Hub; of a file here the source is its path")
    packing_of(Path(checkpoint.source))
    files_of_checkpoint(checkpoint)


def weights_folder(model: Model, results: Results) -> Path | None:
    """Where the weights of a model are; None as long as they have not been fetched."""
    places = [results.model(model.name)]
    if model.revision is None:
        places.append(Path(model.source))
    return next((place for place in places if place.is_dir()), None)
