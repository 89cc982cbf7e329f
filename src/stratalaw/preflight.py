"""Whether a study can run, before it does: from the models' configurations alone, without weights and without a GPU."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from stratalaw.cost.rates import rates_of
from stratalaw.cost.workload import work_of
from stratalaw.downloads import Repository, download_file
from stratalaw.files import readable_bytes
from stratalaw.inputs import check_architecture, check_is_pinned, weights_folder
from stratalaw.kernels import kernel_of
from stratalaw.models import CONFIG, INDEX, WEIGHTS, ModelError
from stratalaw.shapes import BYTES_OF_16_BITS, BYTES_OF_32_BITS, Shapes, shapes_of, shapes_of_weights
from stratalaw.study import Model, Study, StudyError
from stratalaw.variants import BASELINE_NAME, Quantization

GB = 1e9
RESULTS = Path("results")


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a variant before it is made.

    Attributes:
        model: name of the model.
        quantization: which variant of it.
        weight_bytes: of the packed checkpoint.
        gpu_bytes: GPU memory that its jobs need at least.
        ragged: row lengths that the group size does not divide, with the matrices that have them.
        kernel: what a user would run it on.
        gpu_seconds: that its jobs take on the GPU whose rates were measured.
    """

    model: str
    quantization: Quantization
    weight_bytes: int
    gpu_bytes: int
    ragged: dict[int, list[str]]
    kernel: str
    gpu_seconds: float


@dataclass(frozen=True)
class Preflight:
    """A study as it would run.

    Attributes:
        checkpoints: every quantized variant.
        disk_bytes: what models and checkpoints that are not there yet will take.
        free_bytes: what the disk has.
        problems: why it cannot run, one line each.
    """

    checkpoints: list[Checkpoint]
    disk_bytes: int
    free_bytes: int
    problems: list[str]


def preflight(study: Study, study_file: str, gpu_bytes: float) -> Preflight:
    """Look at every variant of a study.

    Args:
        study: a model on the Hub must be pinned; only its configuration is fetched.
        study_file: for messages.
        gpu_bytes: memory of one GPU.

    Raises:
        StudyError: a model is not pinned, is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
    """
    shapes = shapes_of_study(study, study_file)
    checkpoints = list(checkpoints_of(study, shapes))
    disk = disk_bytes(shapes, checkpoints)
    existing = RESULTS if RESULTS.exists() else Path()
    free = shutil.disk_usage(existing).free
    problems = [
        f"{model}: its jobs need at least {readable_bytes(needed)} of GPU memory, "
        f"and a GPU has {readable_bytes(gpu_bytes)}"
        for model in shapes
        if (needed := max((c.gpu_bytes for c in checkpoints if c.model == model), default=0)) > gpu_bytes
    ]
    if disk > free:
        needed, has = readable_bytes(disk), readable_bytes(free)
        problems.append(f"{existing.resolve()}: models and checkpoints need {needed}, and {has} are free")
    return Preflight(checkpoints, disk, free, problems)


def refuse_what_cannot_run(study: Study, study_file: str, models: Set[str], jobs_run_here: bool) -> None:
    """Look at every variant of some models of a study before any of their jobs runs.

    GPU memory is checked only where jobs run on this machine: what a cluster's nodes have is not known here.

    Raises:
        StudyError: it cannot run; one line says why.
        DownloadError: the configuration of a model cannot be fetched.
    """
    wanted = [model for model in study.models if model.name in models]
    if not wanted:
        return
    gpu_bytes = smallest_gpu_bytes() if jobs_run_here else math.inf
    problems = preflight(study.model_copy(update={"models": wanted}), study_file, gpu_bytes).problems
    if problems:
        raise StudyError(f"{study_file}: {'; '.join(problems)}")


def smallest_gpu_bytes() -> float:
    """Memory of the smallest NVIDIA GPU of this machine; infinite if there is none, or none that tells."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return math.inf
    # A GPU that shares the memory of the machine has none of its own to tell: [N/A].
    return min((int(mebibytes) * 2**20 for mebibytes in listed.split() if mebibytes.isdecimal()), default=math.inf)


def shapes_of_study(study: Study, study_file: str) -> dict[str, Shapes]:
    """The shapes of every model of a study, by its name.

    Raises:
        StudyError: a model is not pinned, is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
    """
    shapes = {}
    for i, model in enumerate(study.models):
        try:
            check_is_pinned(model, f"models.{i}", study_file)
            shapes[model.name] = shapes_of_model(model)
        except (LookupError, ModelError) as error:
            raise StudyError(f"{study_file}: {error.args[0]}") from None
    return shapes


def shapes_of_model(model: Model) -> Shapes:
    """The shapes of a model: from its weights if they are there, else from its configuration, which may be on the Hub.

    Raises:
        ModelError: there is no configuration, or transformers or gptqmodel does not know the architecture.
        DownloadError: the configuration cannot be fetched.
    """
    folder = weights_folder(model)
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


def checkpoints_of(study: Study, shapes: dict[str, Shapes]) -> Iterator[Checkpoint]:
    """Every quantized variant of a study."""
    variants, rates, work = study.variants(), rates_of(), work_of(study.evaluation)
    answering = {name: rates.evaluation(model, work) for name, model in shapes.items()}
    for row in variants[variants.variant != BASELINE_NAME].itertuples():
        quantization, model = Quantization.from_name(row.variant), shapes[row.model]
        ragged: dict[int, list[str]] = {}
        for matrix in model.matrices:
            kind = matrix.name.rpartition(".")[2]
            if matrix.is_ragged(quantization.group_size) and kind not in ragged.setdefault(matrix.in_features, []):
                ragged[matrix.in_features].append(kind)
        yield Checkpoint(
            model=row.model,
            quantization=quantization,
            weight_bytes=model.weight_bytes(quantization),
            gpu_bytes=max(scoring_bytes(model, study), quantizing_bytes(model, quantization, study)),
            ragged=ragged,
            kernel=kernel_of(quantization, study.gptq.symmetric, model.matrices),
            gpu_seconds=rates.before_quantization(model)
            + rates.quantization(model, quantization.calibration_size * study.calibration.tokens)
            + answering[row.model],
        )


def scoring_bytes(shapes: Shapes, study: Study) -> int:
    """GPU memory that scoring needs at least: dense weights, and what a batch has in its widest layer."""
    widest = max(matrix.out_features for matrix in shapes.matrices)
    return shapes.weight_bytes(None) + study.evaluation.tokens_a_batch * widest * BYTES_OF_16_BITS


def quantizing_bytes(shapes: Shapes, quantization: Quantization, study: Study) -> int:
    """GPU memory that GPTQ needs at least: what a layer gets for all samples, and the largest Hessian."""
    hidden = shapes.matrices[0].in_features
    tokens = quantization.calibration_size * study.calibration.tokens
    widest = max(matrix.in_features for matrix in shapes.matrices)
    return tokens * hidden * BYTES_OF_16_BITS + widest**2 * BYTES_OF_32_BITS


def disk_bytes(shapes: dict[str, Shapes], checkpoints: list[Checkpoint]) -> int:
    """What models and checkpoints that are not there yet will take."""
    models = [model.weight_bytes(None) for name, model in shapes.items() if not (RESULTS / "models" / name).exists()]
    missing = [
        checkpoint.weight_bytes
        for checkpoint in checkpoints
        if not (RESULTS / "checkpoints" / checkpoint.model / checkpoint.quantization.name).exists()
    ]
    return sum(models) + sum(missing)
