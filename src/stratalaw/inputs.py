"""What a study needs before anything runs: checked first, so that a mistake costs seconds and not a night."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from stratalaw.models import CONFIG, ModelError, check_model, model_files
from stratalaw.study import Calibration, Evaluation, Model, Study, StudyError

REPOSITORY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")


def check_inputs(study: Study, study_file: str) -> None:
    """Check the models' folders, the calibration corpus and the names of the tasks; what the Hub has is pinned.

    Raises:
        StudyError: something is missing, damaged or not pinned; one line names the file and the key.
    """
    try:
        for i, model in enumerate(study.models):
            if model.revision is None:
                check_source(model, f"models.{i}", study_file)
        check_corpus(study.calibration, study_file)
        check_data_sets(study.evaluation, study_file)
    except (LookupError, ModelError) as error:
        raise StudyError(f"{study_file}: {error.args[0]}") from None


def check_source(model: Model, key: str, study_file: str) -> None:
    """Refuse a model without a revision that is no folder, or not a whole one."""
    check_is_pinned(model, key, study_file)
    if not Path(model.source).is_dir():
        raise LookupError(f"{key}.source: there is no folder {model.source}")
    check_model(Path(model.source))
    check_architecture(Path(model.source))


def check_is_pinned(model: Model, key: str, study_file: str) -> None:
    """Refuse a model that can only be a repository of the Hub, and has no revision."""
    if is_unpinned(model):
        raise LookupError(
            f"{key}: there is no folder {model.source}, and for a repository of the Hub the revision is missing; "
            f"run: stratalaw pin {study_file}"
        )


def check_architecture(folder: Path) -> None:
    """Raise ModelError unless gptqmodel can quantize the model of a folder, without code of its own."""
    path = folder / CONFIG
    if not path.exists():
        raise ModelError(f"{folder}: no {CONFIG}")
    config = json.loads(path.read_text())
    if "quantization_config" in config:
        raise ModelError(f"{path}: its weights are quantized already (quantization_config); give the original model")
    architecture = config.get("model_type")
    if architecture not in known_architectures():
        raise ModelError(f"{path}: gptqmodel cannot quantize models of the type {architecture}")
    if architecture not in own_architectures_of_transformers():
        raise ModelError(
            f"{path}: transformers has no models of the type {architecture}; code that comes with a model is not run"
        )


@cache
def known_architectures() -> frozenset[str]:
    """The types of models that gptqmodel can quantize, from its source: importing it takes many seconds."""
    (package,) = find_spec("gptqmodel").submodule_search_locations
    found: set[str] = set()
    for statement in ast.walk(ast.parse((Path(package) / "models" / "auto.py").read_text())):
        match statement:
            case ast.Assign([ast.Name("MODEL_MAP")], ast.Dict(keys)):
                found |= {key.value for key in keys}
            case ast.Assign([ast.Subscript(ast.Name("MODEL_MAP"), ast.Constant(key))]):
                found.add(key)
    return frozenset(found)


@cache
def own_architectures_of_transformers() -> frozenset[str]:
    """The types of models that transformers knows by itself; this part of it loads without torch."""
    from transformers.models.auto.auto_mappings import CONFIG_MAPPING_NAMES

    return frozenset(CONFIG_MAPPING_NAMES)


def check_corpus(calibration: Calibration, study_file: str) -> None:
    """Refuse a corpus that is not on this machine, or in a data set without a revision."""
    if calibration.dataset is None and not Path(calibration.corpus).is_file():
        raise LookupError(f"calibration.corpus: there is no file {calibration.corpus}")
    if calibration.dataset is not None and calibration.revision is None:
        raise LookupError(
            f"calibration: the revision of {calibration.dataset} is missing; run: stratalaw pin {study_file}"
        )


def check_data_sets(evaluation: Evaluation, study_file: str) -> None:
    """Refuse a task that lm-eval does not have, and one whose data set is on the Hub and has no revision."""
    from stratalaw.tasks import check_metrics, data_set_of, task_manager

    manager = task_manager(evaluation)
    check_metrics(manager, evaluation)
    for stratum, benchmarks in evaluation.strata.items():
        for benchmark in benchmarks:
            if benchmark.revision is None and (data_set := data_set_of(manager, benchmark.task)) is not None:
                raise LookupError(
                    f"evaluation.strata.{stratum}: {benchmark.task}: the revision of its data set {data_set} is "
                    f"missing; run: stratalaw pin {study_file}"
                )


def is_unpinned(model: Model) -> bool:
    """Whether a model's source can only be a repository of the Hub, and its commit is not given."""
    names_repository = REPOSITORY_NAME.fullmatch(model.source) is not None
    return model.revision is None and names_repository and not Path(model.source).is_dir()


def files_of(model: Model) -> list[Path]:
    """The files on this machine that a model is made of; none for one that comes from the Hub."""
    return model_files(Path(model.source)) if model.revision is None else []


def task_files(evaluation: Evaluation) -> list[Path]:
    """The files in the folder of tasks, in the order of their names: definitions, items and code."""
    if evaluation.tasks_folder is None:
        return []
    folder = Path(evaluation.tasks_folder)
    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_by_product(path.relative_to(folder)))


def is_by_product(path: Path) -> bool:
    """Whether programs left a file (Python's bytecode, copies of an editor): it comes and goes without a change."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def weights_folder(model: Model, folder: Path = Path()) -> Path | None:
    """Where the weights of a model are in a working directory; None as long as they have not been fetched."""
    places = [folder / "results" / "models" / model.name]
    if model.revision is None:
        places.append(folder / model.source)
    return next((place for place in places if place.is_dir()), None)


def corpus_file(calibration: Calibration) -> str:
    """Where the calibration corpus is, or will be once it is fetched."""
    if calibration.dataset is None:
        return calibration.corpus
    repository = f"{calibration.dataset.replace('/', '--')}@{calibration.revision}"
    return f"results/corpora/{repository}/{calibration.corpus}"
