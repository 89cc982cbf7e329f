"""Whether a study can run, checked before it starts: from the models' configurations, without weights or a GPU."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratalaw.calibration.samples import CorpusError, counts_of, texts_long_enough
from stratalaw.contents import Contents
from stratalaw.cost.rates import rates_of
from stratalaw.cost.resources import BYTES_PER_MEGABYTE, resources_of_answers, resources_of_checkpoint
from stratalaw.cost.workload import work_of
from stratalaw.layout import Results
from stratalaw.models.allocation import problems_of_allocation
from stratalaw.models.folder import TOKENIZER, ModelError
from stratalaw.models.hub import Repository, unreadable
from stratalaw.models.known_shapes import has_shipped_shapes, shapes_of_study
from stratalaw.models.shapes import Matrix, Shapes
from stratalaw.models.sources import check_models_are_pinned, weights_folder
from stratalaw.preparation.checks import check_corpus, check_data_sets
from stratalaw.preparation.inference_kernels import inference_kernel_of
from stratalaw.preparation.neighbours import basis_of, check_neighbours, neighbours_of, samples_of
from stratalaw.preparation.rehearsals import rehearsals
from stratalaw.study import Study, StudyError
from stratalaw.study.variants import Quantization, calibration_of, is_quantized_here
from stratalaw.text import one_line
from stratalaw.units import readable_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GB = 1e9
# Those that transformers puts around a text, maybe, and the bare tokenizer does not: no text is missed for them.
SPECIAL_TOKENS = 2


@dataclass(frozen=True)
class ExpectedCheckpoint:
    """What is known of a checkpoint before it is made.

    Attributes:
        model: name of the model.
        quantization: which variant of it.
        weight_bytes: bytes of the packed weights.
        gpu_bytes: GPU memory that its jobs ask for at the first attempt.
        ragged: row lengths that the group size does not divide, with the matrices that have them.
        kernel: gptqmodel's kernel that a user would run it on.
        gpu_seconds: seconds of its jobs on the GPU whose rates were measured.
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
        shipped: names of the models whose shapes are those that are shipped, since they were not fetched yet.
        disk_bytes: bytes that the models and checkpoints still to be made will take.
        free_bytes: bytes that are free on the disk.
        problems: why it cannot run, one line each.
        rehearsed: models of architectures that no test covers, which a rehearsal found to run, one line each.
    """

    checkpoints: list[ExpectedCheckpoint]
    shipped: list[str]
    disk_bytes: int
    free_bytes: int
    problems: list[str]
    rehearsed: list[str] = field(default_factory=list)


def preflight(study: Study, study_file: str, gpu_bytes: float, results: Results = Results()) -> Preflight:
    """Look at every variant of a study.

    Args:
        study: of a model on the Hub whose shapes are not shipped, only the configuration is fetched.
        study_file: for messages.
        gpu_bytes: memory of one GPU.
        results: where models and checkpoints are, as far as they are made.

    Raises:
        StudyError: a model whose shapes are not shipped is not pinned; or one is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
    """
    configurations: dict[str, dict[str, Any]] = {}
    shapes = shapes_of_study(study, study_file, results, configurations)
    shipped = [model.name for model in study.models if has_shipped_shapes(model, results)]
    checkpoints = list(checkpoints_of(study, shapes))
    disk = disk_bytes(shapes, checkpoints, results) + sum(
        shapes[model.name].weight_bytes(None)  # of dense weights
        for model in study.models
        for checkpoint in model.checkpoints
        if not results.conversion(model.name, checkpoint.name).exists()
    )
    existing = results.root if results.root.exists() else Path()
    free = shutil.disk_usage(existing).free
    problems = [
        f"{model}: its jobs ask for {readable_bytes(needed)} of GPU memory, and a GPU has {readable_bytes(gpu_bytes)}"
        for model in shapes
        if (needed := max((c.gpu_bytes for c in checkpoints if c.model == model), default=0)) > gpu_bytes
    ]
    if disk > free:
        problems.append(
            f"{existing.resolve()}: models and checkpoints need {readable_bytes(disk)}, "
            f"and {readable_bytes(free)} are free"
        )
    problems += problems_of_mixed(checkpoints, shapes)
    problems += problems_of_packing(checkpoints, shapes)
    problems += problems_of_sources(study, study_file, results)
    problems += problems_of_calibration(study, results)
    problems += problems_of_neighbours(study, study_file, results)
    rehearsed = rehearsals(study, configurations, results)
    problems += [rehearsal.problem for rehearsal in rehearsed if rehearsal.problem]
    lines = [rehearsal.line for rehearsal in rehearsed if not rehearsal.problem]
    return Preflight(checkpoints, shipped, disk, free, problems, lines)


def problems_of_packing(checkpoints: list[ExpectedCheckpoint], shapes: dict[str, Shapes]) -> list[str]:
    """Which models have matrices that gptqmodel cannot pack with some of the bits: it would end without a word."""
    refused: dict[tuple[str, int], Matrix] = {}
    for (model, _, _), alike in grouped(checkpoints).items():
        for matrix in shapes[model].matrices:
            bits = alike[0].quantization.of(matrix.name).bits
            if not matrix.can_be_packed(bits):
                refused.setdefault((model, bits), matrix)
    return [
        f"{model}: with {bits} bits gptqmodel packs only matrices whose sides are multiples of 32, and "
        f"{matrix.name} has {matrix.out_features} x {matrix.in_features}"
        for (model, bits), matrix in sorted(refused.items())
    ]


def problems_of_mixed(checkpoints: list[ExpectedCheckpoint], shapes: dict[str, Shapes]) -> list[str]:
    """Which mixed variants have bits that the matrices of their model cannot have."""
    return [
        f"{model}: {problem}"
        for (model, _, _), alike in grouped(checkpoints).items()
        if alike[0].quantization.exceptions
        for problem in problems_of_allocation(alike[0].quantization, shapes[model].matrices)
    ]


def grouped(checkpoints: list[ExpectedCheckpoint]) -> dict[tuple[str, str, str], list[ExpectedCheckpoint]]:
    """Variants that differ in their calibration only, by model and by bits and group size as text."""
    groups: dict[tuple[str, str, str], list[ExpectedCheckpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault((checkpoint.model, *_settings(checkpoint.quantization)), []).append(checkpoint)
    return groups


def _settings(quantization: Quantization) -> tuple[str, str]:
    if quantization.exceptions:
        return quantization.name.rpartition("-c")[0], "own"
    return str(quantization.bits), str(quantization.group_size)


def problems_of_sources(study: Study, study_file: str, results: Results) -> list[str]:
    """What is not pinned, and why the calibration text or a data set cannot be read as far as they are still needed.

    Offline (HF_HUB_OFFLINE) the Hub is not asked: a cache may have what it needs.
    """
    from huggingface_hub import constants

    problems = []
    for check in (
        partial(check_models_are_pinned, study, study_file),
        partial(check_corpus, study.calibration, study_file),
        partial(check_data_sets, study.evaluation, study_file),
    ):
        try:
            check()
        except StudyError as error:
            problems.append(str(error))
    if problems or constants.HF_HUB_OFFLINE:
        return problems
    return unreadable(dict.fromkeys(texts_on_the_hub(study, results)))


def problems_of_calibration(study: Study, results: Results) -> list[str]:
    """Why the calibration text has too few samples for a study, as far as text and tokenizers are on this machine.

    Texts that overlap with a benchmark are not known before its requests are recorded.
    """
    tokens = study.calibration.tokens
    for corpus, most in texts_needed(study, results).items():
        if not most or not corpus.is_file():
            continue
        try:
            counts = {
                model: texts_long_enough(corpus, tokenize, tokens - SPECIAL_TOKENS, most)
                for model, tokenize in tokenizers_of(study, results).items()
            }
        except (CorpusError, ModelError) as error:
            return [str(error)]
        for model, count in counts.items():
            if count < most:
                long_enough = f" of {tokens} tokens (by the tokenizer of {model})" if model else ""
                return [f"grids: calibration_size asks for {most} texts{long_enough}, and {corpus} has {count}"]
    return []


def texts_needed(study: Study, results: Results) -> dict[Path, int]:
    """How many texts of each corpus the largest calibration set needs."""
    needed: dict[Path, int] = {}
    mixtures = {calibration_of(name)[2] for _, name in study.variant_names() if is_quantized_here(name)}
    for mixture in sorted(mixtures):
        files, most = results.corpora(study.calibration, mixture), samples_of(study, [], mixture)
        counts = counts_of(list(study.calibration.mixtures[mixture].values()), most) if mixture else [most]
        for file, count in zip(files.values(), counts, strict=True):
            needed[file] = max(needed.get(file, 0), count)
    return needed


def problems_of_neighbours(study: Study, study_file: str, results: Results) -> list[str]:
    """Which results of another study in the same folder would be overwritten."""
    others, contents = neighbours_of(study, study_file, results), Contents(results.hashes)
    try:
        if others:
            basis = basis_of(study, study_file, results, lambda *files: contents.digest(files))
            check_neighbours(basis, others, results)
    except (StudyError, OSError) as error:  # of files that are not there, which are problems of their own
        return [str(error)] if isinstance(error, StudyError) else []
    return []


def tokenizers_of(study: Study, results: Results) -> dict[str, Callable[[str], Sequence[int]] | None]:
    """How the models that are on this machine tokenize: each tokenizer once, by the name of the first model with it.

    Where none is here as a ``tokenizer.json``: None, by an empty name.

    Raises:
        ModelError: a tokenizer cannot be loaded.
    """
    from tokenizers import Tokenizer

    places: dict[bytes, tuple[str, Path]] = {}
    for model in study.models:
        folder = weights_folder(model, results)
        if folder is not None and (file := folder / TOKENIZER).is_file():
            places.setdefault(file.read_bytes(), (model.name, file))
    tokenizers: dict[str, Callable[[str], Sequence[int]] | None] = {}
    for name, file in places.values():
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library in Rust raises nothing more special
            raise ModelError(f"{file}: not a tokenizer ({one_line(error)})") from None
        tokenizer.no_truncation()
        tokenizers[name] = partial(_ids, tokenizer)
    return tokenizers or {"": None}


def _ids(tokenizer: Tokenizer, text: str) -> Sequence[int]:
    ids: Sequence[int] = tokenizer.encode(text).ids
    return ids


def texts_on_the_hub(study: Study, results: Results) -> Iterator[tuple[Repository, str | None]]:
    """The data sets that are still to be fetched, and the file of each that is needed; None for a whole data set."""
    from stratalaw.evaluation.tasks import data_set_of, task_manager

    calibration = study.calibration
    if calibration.dataset is not None and calibration.corpus and not results.corpus(calibration).exists():
        yield Repository(calibration.dataset, "dataset", calibration.revision), calibration.corpus
    manager = task_manager(study.evaluation)
    for stratum, benchmarks in study.evaluation.strata.items():
        if all(results.documents(model.name, stratum).exists() for model in study.models):
            continue
        for benchmark in benchmarks:
            if (data_set := data_set_of(manager, benchmark.task)) is not None:
                yield Repository(data_set, "dataset", benchmark.revision), None


def refuse_what_cannot_run(study: Study, study_file: str, models: Set[str], jobs_run_here: bool) -> list[str]:
    """Look at every variant of some models of a study before any of their jobs runs; which of them were rehearsed.

    GPU memory is checked only where jobs run on this machine: what a cluster's nodes have is not known here.

    Raises:
        StudyError: it cannot run; one line says why.
        DownloadError: the configuration of a model cannot be fetched.
    """
    wanted = [model for model in study.models if model.name in models]
    if not wanted:
        return []
    gpu_bytes = smallest_gpu_bytes() if jobs_run_here else math.inf
    found = preflight(study.model_copy(update={"models": wanted}), study_file, gpu_bytes)
    if found.problems:
        raise StudyError(f"{study_file}: {'; '.join(found.problems)}")
    return found.rehearsed


def smallest_gpu_bytes() -> float:
    """Memory of the smallest NVIDIA GPU of this machine; infinite if there is none, or none that reports it."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return math.inf
    # A GPU that shares the memory of the machine has none of its own to tell: [N/A].
    return min((int(mebibytes) * 2**20 for mebibytes in listed.split() if mebibytes.isdecimal()), default=math.inf)


def checkpoints_of(study: Study, shapes: dict[str, Shapes]) -> Iterator[ExpectedCheckpoint]:
    """Every quantized variant of a study."""
    rates, workload = rates_of(), work_of(study.evaluation)
    answers = {name: rates.answers(model, workload) for name, model in shapes.items()}
    gpu_mb = {name: resources_of_answers(model, study.evaluation).gpu_mem_mb for name, model in shapes.items()}
    tokens, batch_size = study.calibration.tokens, study.gptq.batch_size
    for name, variant in study.variant_names():
        quantization, model = study.quantization_of(name, variant), shapes[name]
        if quantization is None:
            continue
        ragged: dict[int, list[str]] = {}
        for matrix in model.matrices:
            kind = matrix.name.rpartition(".")[2]
            is_ragged = matrix.is_ragged(quantization.of(matrix.name).group_size)
            if is_ragged and kind not in ragged.setdefault(matrix.in_features, []):
                ragged[matrix.in_features].append(kind)
        asked = resources_of_checkpoint(model, quantization, tokens, batch_size)
        yield ExpectedCheckpoint(
            model=name,
            quantization=quantization,
            weight_bytes=model.weight_bytes(quantization),
            gpu_bytes=max(asked.gpu_mem_mb, gpu_mb[name]) * BYTES_PER_MEGABYTE,
            ragged=ragged,
            kernel=inference_kernel_of(quantization, study.gptq.symmetric, model.matrices),
            gpu_seconds=rates.checkpoint(model, quantization.calibration_size * tokens) + answers[name],
        )


def disk_bytes(shapes: dict[str, Shapes], checkpoints: list[ExpectedCheckpoint], results: Results) -> int:
    """Bytes that the models and checkpoints still to be made will take."""
    models = [model.weight_bytes(None) for name, model in shapes.items() if not results.model(name).exists()]
    missing = [
        checkpoint.weight_bytes
        for checkpoint in checkpoints
        if not results.checkpoint(checkpoint.model, checkpoint.quantization.name).exists()
    ]
    return sum(models) + sum(missing)
