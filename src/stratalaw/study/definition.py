"""A study: which models, which variants, which benchmarks; the single source of every choice a run depends on.

The YAML files in ``config/`` are read into :class:`Study`, which refuses unknown keys and impossible values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from stratalaw.errors import StratalawError
from stratalaw.study.plain_yaml import YamlError, read_yaml
from stratalaw.study.variants import (
    BASELINE_NAME,
    MIXTURE_PATTERN,
    UNIFORM_PATTERN,
    Quantization,
    is_mixed,
    is_quantized_here,
)


def _fits_file_systems(path: str) -> str:
    if len(path.encode()) > 1000 or max(len(part.encode()) for part in path.split("/")) > 255:
        raise ValueError("longer than file systems take")
    return path


def _number_of_fraction(value: object) -> object:
    """The number that a fraction such as ``1/3`` stands for; anything else as it is."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,9}/[0-9]{1,9}", value):
        return value
    if Fraction(value.partition("/")[2]) == 0:
        raise ValueError(f"{value}: the denominator is 0")
    return float(Fraction(value))


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+$", max_length=200)]
MixtureName = Annotated[str, Field(pattern=f"^{MIXTURE_PATTERN.pattern}$", max_length=40)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
# Paths of inputs stand in the commands that a scheduler gets: nothing in them may mean something to a shell.
PathText = Annotated[str, Field(pattern=r"^[\w./@+=:,~ -]+$"), AfterValidator(_fits_file_systems)]
Share = Annotated[
    float,
    Field(ge=0, lt=1),
    BeforeValidator(_number_of_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
                {"type": "string", "pattern": "^[0-9]{1,9}/[0-9]{1,9}$"},
            ]
        }
    ),
]
Part = Annotated[float, Field(gt=0, le=1_000_000)]
MAX_VARIANTS = 100_000
MAX_SHOWN = 500  # characters of a message: a value may be as long as the file


class StudyError(StratalawError):
    """A study that cannot be run; the message is one line that names the file, the key and what is allowed."""


class Section(BaseModel):
    """A part of a study: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_is_yes_or_no(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads ``yes`` as true, which would be taken for the number 1."""
        annotation = str(cls.model_fields[str(info.field_name)].annotation)
        given = value if isinstance(value, list) else [value]
        if "bool" not in annotation and any(isinstance(one, bool) for one in given):
            raise ValueError("true or false (yes or no) is not a value of this key; as text it needs quotes")
        return value


SectionKind = TypeVar("SectionKind", bound=Section)


class Checkpoint(Section):
    """A checkpoint of the model that was quantized elsewhere: scored beside its original, not made."""

    name: Name
    """Short name of the variant, used in paths and tables, such as awq-w4-g128."""
    source: PathText
    """A folder, a GGUF file, or a repository of the Hugging Face Hub."""
    revision: Commit | None = None
    """Commit of the repository (40 hexadecimal digits; ``stratalaw pin`` fills it in); none for a folder or file."""
    file: PathText | None = None
    """The GGUF file in the repository; none where the repository holds safetensors."""

    @field_validator("name")
    @classmethod
    def _is_no_name_of_a_variant(cls, name: str) -> str:
        if name == BASELINE_NAME or is_quantized_here(name):
            raise ValueError(f"{name} is the name of a variant that is made here; give another")
        return name

    @field_validator("file")
    @classmethod
    def _is_a_file_of_the_repository(cls, file: str | None) -> str | None:
        if file and (not file.endswith(".gguf") or Path(file).is_absolute() or ".." in Path(file).parts):
            raise ValueError(f"{file} is no GGUF file of the repository")
        return file


Bits = Literal[2, 3, 4, 8]
GroupSize = Literal[-1, 16, 32, 64, 128, 256, 512, 1024]
CalibrationSizes = Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=1)]
CalibrationSeeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
CalibrationMixtures = Annotated[list[MixtureName], Field(min_length=1)]


class MatrixPrecision(Section):
    """How one matrix is quantized."""

    bits: Bits
    """Nominal bits of a weight."""
    group_size: GroupSize | None = None
    """Input features that share a scale and a zero point; as the rest if not given."""


class Allocation(Section):
    """The bits of each matrix of a model: a file that mixed variants name."""

    bits: Bits
    """Nominal bits of a weight of every matrix that is not named."""
    group_size: GroupSize
    """Input features that share a scale and a zero point; -1 is a whole row."""
    matrices: dict[PathText, MatrixPrecision] = Field(min_length=1)
    """The matrices with other bits or another group size, by name, such as model.layers.0.mlp.down_proj."""

    @model_validator(mode="after")
    def _is_mixed(self) -> Allocation:
        if not self.quantization(1, 0).exceptions:
            raise ValueError("every matrix has the same bits and group size; name such a variant in a grid")
        return self

    def quantization(self, calibration_size: int, calibration_seed: int, mixture: str = "") -> Quantization:
        """The variant with a draw of calibration samples."""
        matrices = {
            name: {"bits": one.bits, "group_size": one.group_size or self.group_size}
            for name, one in self.matrices.items()
        }
        plain = {"bits": self.bits, "group_size": self.group_size, "matrices": matrices}
        return Quantization.from_allocation(plain, calibration_size, calibration_seed, mixture)


class Mixed(Section):
    """Variants whose matrices have bits of their own, one for each draw of calibration samples."""

    # A study's file names a file, whose content takes its place when the study is read.
    allocation: Annotated[Allocation, WithJsonSchema({"type": "string"})]
    """A YAML file with the bits of each matrix."""
    calibration_size: CalibrationSizes
    """Number of calibration samples."""
    calibration_seed: CalibrationSeeds = Field(default=[0])
    """Draws of the calibration set."""
    calibration_mixture: CalibrationMixtures | None = None
    """Mixtures of corpora that samples are drawn from; the study's corpus if not given."""

    def quantizations(self) -> Iterator[Quantization]:
        for drawn in product(self.calibration_size, self.calibration_seed, self.calibration_mixture or [""]):
            yield self.allocation.quantization(*drawn)


class Model(Section):
    """A model of the study."""

    name: Name
    """Short name, used in paths and figures."""
    source: PathText
    """A folder with config, tokenizer and safetensors, or a repository of the Hugging Face Hub."""
    revision: Commit | None = None
    """Commit of the Hub repository (40 hexadecimal digits; ``stratalaw pin`` fills it in); none for a folder."""
    family: Name
    """Models of one family differ in size only; laws give each family an intercept of its own."""
    held_out: StrictBool = False
    """Left out of the fit, to test what the law predicts for it."""
    checkpoints: list[Checkpoint] = Field(default=[])
    """Checkpoints of the model that exist already, as variants beside those of the grids; laws leave them out."""
    mixed: list[Mixed] = Field(default=[])
    """Variants whose matrices have bits of their own, beside those of the grids; laws leave them out."""

    @field_validator("checkpoints")
    @classmethod
    def _no_checkpoint_twice(cls, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
        names = [checkpoint.name for checkpoint in checkpoints]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"duplicate checkpoint name: {twice[0]}")
        return checkpoints


class Grid(Section):
    """All combinations of the listed values, for some of the models."""

    bits: list[Bits] = Field(min_length=1)
    """Nominal bits of a weight."""
    group_size: list[GroupSize] = Field(min_length=1)
    """Input features that share a scale and a zero point; -1 is a whole row."""
    calibration_size: CalibrationSizes
    """Number of calibration samples."""
    calibration_seed: CalibrationSeeds = Field(default=[0])
    """Draws of the calibration set; each is a replicate of the whole grid."""
    calibration_mixture: CalibrationMixtures | None = None
    """Mixtures of corpora that samples are drawn from; the study's corpus if not given. Laws leave them out."""
    models: Literal["all", "fitted"] | list[Name] = "all"
    """Which models: all, those that are not held out, or the ones named."""

    @field_validator("bits", "group_size", "calibration_size", "calibration_seed", "calibration_mixture")
    @classmethod
    def _no_value_twice(cls, values: list[Any] | None) -> list[Any] | None:
        if values is not None and len(set(values)) < len(values):
            raise ValueError(f"duplicate value in {values}")
        return values

    @property
    def n_variants(self) -> int:
        """Combinations of the listed values."""
        draws = len(self.calibration_seed) * len(self.calibration_mixture or [""])
        return len(self.bits) * len(self.group_size) * len(self.calibration_size) * draws

    def quantizations(self) -> Iterator[Quantization]:
        mixtures = self.calibration_mixture or [""]
        numbers = product(self.bits, self.group_size, self.calibration_size, self.calibration_seed)
        for (bits, group, size, seed), mixture in product(numbers, mixtures):
            yield Quantization(bits, group, size, seed, mixture=mixture)


class Gptq(Section):
    """Options of GPTQ that change the weights; every default of gptqmodel that matters is stated here."""

    damping: float = Field(default=0.01, gt=0, lt=1)
    """Share of the mean diagonal of the Hessian that is added to the diagonal."""
    symmetric: StrictBool = True
    """Quantization levels lie symmetrically around zero."""
    activation_order: StrictBool = False
    """Quantize columns in the order of their activation's size (desc_act)."""
    sequential_within_layer: StrictBool = True
    """Matrices of a layer are quantized one after the other, each on the outputs of the quantized ones before it."""
    batch_size: int = Field(default=8, ge=1, le=100_000)
    """Calibration samples in one forward pass."""
    threads: int = Field(default=2, ge=1, le=1000)
    """CPU threads; another number sums in another order and gives other weights in the last digits."""


class Calibration(Section):
    """The text that GPTQ sees."""

    corpus: PathText | None = None
    """A JSON Lines file with a ``text`` in each line, gzipped or not: on this machine, or in the data set. It may be
    missing where every grid names mixtures."""
    dataset: RepositoryName | None = None
    """Data set of the Hugging Face Hub that holds the corpus; none for a file on this machine."""
    revision: Commit | None = None
    """Commit of the data set (40 hexadecimal digits; ``stratalaw pin`` fills it in)."""
    tokens: int = Field(ge=16, le=10_000_000)
    """Tokens of each sample."""
    overlap_words: int | None = Field(default=None, ge=2, le=1000)
    """Skip texts that share this many consecutive words with a benchmark item; omit to keep all."""
    corpora: dict[Name, PathText] = Field(default={})
    """The corpora of mixtures by name: files as ``corpus``, on this machine."""
    mixtures: dict[MixtureName, Annotated[dict[Name, Part], Field(min_length=1)]] = Field(default={})
    """By name, the parts that corpora have in a mixture, such as {facts: 1, chains: 1} for a half of each."""

    @model_validator(mode="after")
    def _there_is_text(self) -> Calibration:
        if self.corpus is None and (self.dataset or not self.mixtures):
            raise ValueError("`corpus` is missing" + (f", the file of {self.dataset}" if self.dataset else ""))
        return self

    @model_validator(mode="after")
    def _mixtures_are_of_known_corpora(self) -> Calibration:
        for mixture, parts in self.mixtures.items():
            if unknown := sorted(parts.keys() - self.corpora.keys()):
                known = f"one of {', '.join(self.corpora)}" if self.corpora else "there: `corpora` is missing"
                raise ValueError(f"mixtures.{mixture}: {unknown[0]} is not {known}")
        return self

    @model_validator(mode="after")
    def _a_revision_is_of_a_data_set(self) -> Calibration:
        if self.revision and not self.dataset:
            raise ValueError("`revision` is set without `dataset`")
        return self

    @model_validator(mode="after")
    def _a_file_of_a_data_set_is_within_it(self) -> Calibration:
        # It is written to results/corpus under its name.
        if self.dataset and self.corpus and (".." in Path(self.corpus).parts or Path(self.corpus).is_absolute()):
            raise ValueError(f"the corpus {self.corpus} is not within the data set {self.dataset}")
        return self

    def of_draws(self, mixture: str) -> dict[str, Any]:
        """What samples depend on, but for their number, as plain values; ``mixture``: empty for those of ``corpus``."""
        values = self.model_dump(exclude={"corpora", "mixtures"})
        if not mixture:
            return values
        parts = self.mixtures[mixture]
        of_corpus = dict.fromkeys(("corpus", "dataset", "revision"))
        return values | of_corpus | {"mixtures": parts, "corpora": {name: self.corpora[name] for name in parts}}


# What laws are fitted to besides the strata: means over all of them, and over all but memorization.
COMPOSITES = {"general", "utilization"}


class Task(Section):
    """A task of lm-eval."""

    task: Name
    """Name of the task in lm-eval."""
    revision: Commit | None = None
    """Commit of the task's data set on the Hub (40 hexadecimal digits; ``stratalaw pin`` fills it in)."""
    metric: Name = "acc"
    """The task's metric that is the accuracy."""
    filter: Name | None = None
    """The task's filter of answers whose metric counts; needed only where a task has several."""
    shots: int | None = Field(default=None, ge=0, le=1000)
    """Examples in the prompt; the task's own number if not given."""
    chat_template: StrictBool = False
    """Write prompts by the tokenizer's chat template, as lm-eval's ``--apply_chat_template`` does: for models that were
    trained to chat, where what they can do in a conversation is the question."""
    fewshot_as_multiturn: StrictBool | None = None
    """Each example in the prompt is a turn of the conversation; lm-eval's default, which is true, if not given."""
    system_instruction: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    """What the prompt starts with; in the chat template, the message of the system."""

    @model_validator(mode="after")
    def _turns_are_of_a_conversation(self) -> Task:
        if self.fewshot_as_multiturn is not None and not self.chat_template:
            raise ValueError("`fewshot_as_multiturn` is set without `chat_template: true`")
        return self


class Benchmark(Task):
    """A task of lm-eval whose accuracy is observed."""

    chance: Share
    """Accuracy of guessing, as a number or a fraction such as 1/3."""


class Tasks(Section):
    """What the variants are asked."""

    strata: dict[Name, Annotated[list[Task], Field(min_length=1)]] = Field(min_length=1)
    """Tasks of each stratum of knowledge."""
    tasks_folder: PathText | None = None
    """A folder of lm-eval tasks; lm-eval's own registry if not given."""
    items: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Only the first items of each benchmark; all if not given."""
    tokens_per_batch: int = Field(default=16_384, ge=256, le=100_000_000)
    """Tokens in one forward pass."""

    @model_validator(mode="after")
    def _each_task_once(self) -> Tasks:
        tasks = [benchmark.task for benchmarks in self.strata.values() for benchmark in benchmarks]
        twice = sorted({task for task in tasks if tasks.count(task) > 1})
        if twice:
            raise ValueError(f"task {twice[0]} occurs twice")
        return self

    @model_validator(mode="after")
    def _no_stratum_is_named_like_a_composite(self) -> Tasks:
        if taken := sorted(COMPOSITES & self.strata.keys()):
            raise ValueError(f"stratum {taken[0]}: the name is reserved for a mean over strata")
        return self


class Evaluation(Tasks):
    """What the variants are asked, and what guessing would score."""

    # Nothing is ever added to it, so that benchmarks may stand where tasks do.
    strata: dict[Name, Annotated[list[Benchmark], Field(min_length=1)]] = Field(min_length=1)  # type: ignore[assignment]
    """Benchmarks of each stratum of knowledge."""
    paired_stderr: float | None = Field(default=None, gt=0, lt=1)
    """Standard error, such as 0.01, of a stratum's mean difference from the original at which a variant is asked no
    further items; all are asked if not given. Originals are asked all."""

    def for_requests(self) -> dict[str, Any]:
        """The values of ``Tasks`` that requests depend on: others can be corrected without a forward pass."""
        return self.model_dump(exclude=of_benchmarks("chance", "metric", "filter") | {"paired_stderr": True})

    def scored_by(self) -> dict[str, dict[str, str | None]]:
        """The metric and the filter of each task, which requests do not depend on."""
        return {
            benchmark.task: {"metric": benchmark.metric, "filter": benchmark.filter}
            for benchmarks in self.strata.values()
            for benchmark in benchmarks
        }

    def for_scores(self) -> dict[str, Any]:
        """The values of ``Tasks`` that the scores of answers depend on."""
        return self.model_dump(exclude=of_benchmarks("chance") | {"tokens_per_batch": True, "paired_stderr": True})


def of_benchmarks(*fields: str) -> dict[str, Any]:
    """Fields of every benchmark of an evaluation, as pydantic names them."""
    return {"strata": {"__all__": {"__all__": set(fields)}}}


class Study(Section):
    """A whole study."""

    name: Name
    """Short name, used in titles."""
    models: list[Model] = Field(min_length=1)
    """Models that are quantized and evaluated."""
    grids: list[Grid] = Field(default=[])
    """Variants of the models; one that several grids name is made once. None where models have checkpoints to score."""
    gptq: Gptq = Gptq()
    """Options of GPTQ."""
    calibration: Calibration
    """Text that GPTQ sees."""
    evaluation: Evaluation
    """Benchmarks that every variant answers."""

    @model_validator(mode="after")
    def _names_are_known_and_unique(self) -> Study:
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"duplicate model name: {name}")
        for i, grid in enumerate(self.grids):
            for name in grid.models if isinstance(grid.models, list) else ():
                if name not in names:
                    raise ValueError(f"grids.{i}.models: {name} is not one of {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _has_something_to_score(self) -> Study:
        if not self.grids and not any(model.checkpoints or model.mixed for model in self.models):
            raise ValueError("grids: there are none, and no model has checkpoints: there is nothing to score")
        return self

    @model_validator(mode="after")
    def _variants_can_be_counted(self) -> Study:
        named = sum(len(self.models_of(grid)) * grid.n_variants for grid in self.grids)
        if named > MAX_VARIANTS:
            raise ValueError(f"grids: they name {named:,} variants; a study has at most {MAX_VARIANTS:,}")
        return self

    @model_validator(mode="after")
    def _samples_are_drawn_from_something(self) -> Study:
        grids = [(f"grids.{i}", grid.calibration_mixture) for i, grid in enumerate(self.grids)]
        for i, model in enumerate(self.models):
            grids += [(f"models.{i}.mixed.{k}", one.calibration_mixture) for k, one in enumerate(model.mixed)]
        known = self.calibration.mixtures
        for key, mixtures in grids:
            if mixtures is None and self.calibration.corpus is None:
                raise ValueError(f"{key}: it names no `calibration_mixture`, and `calibration.corpus` is missing")
            if unknown := [name for name in mixtures or () if name not in known]:
                allowed = f"one of {', '.join(known)}" if known else "there: `calibration.mixtures` is missing"
                raise ValueError(f"{key}.calibration_mixture: {unknown[0]} is not {allowed}")
        return self

    def as_plain(self) -> dict[str, Any]:
        """The study as plain values, from which it can be made again.

        What is not given, of later versions, has no key: jobs that depend on the values are not run again for nothing.
        """
        values = self.model_dump(mode="json")
        if self.evaluation.paired_stderr is None:
            del values["evaluation"]["paired_stderr"]
        of_mixtures = [*values["grids"], *(mixed for model in values["models"] for mixed in model["mixed"])]
        for part, keys in (
            *((model, ("checkpoints", "mixed")) for model in values["models"]),
            *((grid, ("calibration_mixture",)) for grid in of_mixtures),
            (values["calibration"], ("corpora", "mixtures")),
        ):
            for key in keys:
                if not part[key]:
                    del part[key]
        return values

    def models_of(self, grid: Grid) -> list[Model]:
        """The models that a grid applies to, in the order of the study."""
        if grid.models == "all":
            return self.models
        if grid.models == "fitted":
            return [model for model in self.models if not model.held_out]
        return [model for model in self.models if model.name in grid.models]

    def quantizations_of(self, model: Model) -> list[Quantization]:
        """The quantized variants of a model, each once, in the order of bits, group size, calibration size and seed;
        then the mixed ones."""
        of_grids = {q for grid in self.grids if model in self.models_of(grid) for q in grid.quantizations()}
        mixed = {q for entry in model.mixed for q in entry.quantizations()}
        return [*sorted(of_grids), *sorted(mixed)]

    def quantization_of(self, model: str, variant: str) -> Quantization | None:
        """How a variant is quantized; None for an original and for a checkpoint that exists."""
        if UNIFORM_PATTERN.fullmatch(variant):
            return Quantization.from_name(variant)
        if not is_mixed(variant):
            return None
        mixed = (q for one in self.models if one.name == model for entry in one.mixed for q in entry.quantizations())
        return next((quantization for quantization in mixed if quantization.name == variant), None)

    def variant_names(self) -> list[tuple[str, str]]:
        """The model and the variant of each row of ``variants``."""
        return [
            (model.name, name)
            for model in self.models
            for name in (
                BASELINE_NAME,
                *(quantization.name for quantization in self.quantizations_of(model)),
                *(checkpoint.name for checkpoint in model.checkpoints),
            )
        ]

    def checkpoint_of(self, model: str, variant: str) -> Checkpoint | None:
        """The existing checkpoint that a variant is; None for a variant that is made here."""
        found = (one for entry in self.models if entry.name == model for one in entry.checkpoints)
        return next((one for one in found if one.name == variant), None)

    def variants(self) -> pd.DataFrame:
        """One row for each variant of each model, baselines and existing checkpoints included.

        Columns: model, family, held_out, variant, bits, group_size, calibration_size, calibration_seed and
        calibration_mixture; the last five are missing for a baseline and for a checkpoint that exists, bits and group
        size for a mixed variant, and the mixture where samples are from the study's corpus. A variant that several
        grids name occurs once.
        """
        rows = []
        for model in self.models:
            about = {"model": model.name, "family": model.family, "held_out": model.held_out}
            rows.append(about | {"variant": BASELINE_NAME})
            for q in self.quantizations_of(model):
                drawn = {
                    "calibration_size": q.calibration_size,
                    "calibration_seed": q.calibration_seed,
                    "calibration_mixture": q.mixture or None,
                }
                uniform = {} if q.exceptions else {"bits": q.bits, "group_size": q.group_size}
                rows.append(about | {"variant": q.name} | uniform | drawn)
            rows += [about | {"variant": checkpoint.name} for checkpoint in model.checkpoints]
        columns = ["bits", "group_size", "calibration_size", "calibration_seed"]
        table = pd.DataFrame(rows, columns=[*about, "variant", *columns, "calibration_mixture"])
        return table.astype(dict.fromkeys(columns, "Int64") | {"calibration_mixture": "string"})


def read_study(path: Path) -> Study:
    """Read and check a study.

    Relative paths of its inputs are looked for in the working directory, then beside the file and in the folders above.

    Raises:
        StudyError: the file is not plain YAML (see ``parse_yaml``) or not a study; one line names the file, the key and
            what is allowed.
    """
    try:
        content = read_yaml(path)
    except YamlError as error:
        raise StudyError(str(error)) from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping with the keys {', '.join(Study.model_fields)}")
    return study_of(content, str(path), [Path(), *path.resolve().parents])


def study_of(content: Mapping[str, Any], origin: str, folders: Sequence[Path]) -> Study:
    """The study that plain values mean, with its allocations read, and its inputs in the first of some folders that has
    them.

    Args:
        content: the values.
        origin: where they come from, for messages.
        folders: where relative paths are looked for, in this order.

    Raises:
        StudyError: one line names the origin or the file of an allocation, the key and what is allowed.
    """
    return located(validated(with_allocations(content, origin, folders), Study, origin), folders)


def with_allocations(content: Mapping[str, Any], origin: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The values of a study with the content of each allocation in place of its file's name; what is no study stays."""
    models = content.get("models")
    if not isinstance(models, list):
        return dict(content)

    def with_content(mixed: Any, key: str) -> Any:
        if not isinstance(mixed, Mapping) or not isinstance(mixed.get("allocation"), str):
            return mixed
        path = first_of(folders, mixed["allocation"])
        if not Path(path).is_file():
            raise StudyError(f"{origin}: {key}.allocation: there is no file {path}")
        try:
            allocation = read_yaml(Path(path))
        except YamlError as error:
            raise StudyError(f"{origin}: {key}.allocation: {error}") from None
        if not isinstance(allocation, dict):
            raise StudyError(f"{path}: an allocation is a mapping with the keys {', '.join(Allocation.model_fields)}")
        validated(allocation, Allocation, path)  # messages name its own file
        return {**mixed, "allocation": allocation}

    def with_mixed(model: Any, key: str) -> Any:
        if not isinstance(model, Mapping) or not isinstance(model.get("mixed"), list):
            return model
        return {**model, "mixed": [with_content(one, f"{key}.mixed.{k}") for k, one in enumerate(model["mixed"])]}

    return {**content, "models": [with_mixed(model, f"models.{i}") for i, model in enumerate(models)]}


def first_of(folders: Sequence[Path], path: str) -> str:
    """The path in the first of some folders that has it; as it is where none has."""
    return next((str(folder / path) for folder in folders if (folder / path).exists()), path)


def validated(content: Mapping[str, Any], kind: type[SectionKind], origin: str) -> SectionKind:
    """A section from plain values.

    Args:
        content: the values.
        kind: which section.
        origin: where they come from, for messages.

    Raises:
        StudyError: one line names the origin, the key and what is allowed.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        message = " ".join(describe(error, kind).split())  # keys may hold line breaks
        shown = message if len(message) <= MAX_SHOWN else f"{message[:MAX_SHOWN]} …"
        raise StudyError(f"{origin}: {shown}") from None


def located(study: Study, folders: Sequence[Path]) -> Study:
    """The study with the paths of its inputs in the first of some folders that has them.

    A path that none of them has stays as it is, for a message that names it as the study does.
    """

    def find(path: str) -> str:
        return first_of(folders, path)

    def found(part: Model | Checkpoint) -> dict[str, Any]:
        return {} if part.revision else {"source": find(part.source)}

    models = [
        model.model_copy(
            update=found(model) | {"checkpoints": [one.model_copy(update=found(one)) for one in model.checkpoints]}
        )
        for model in study.models
    ]
    calibration, evaluation = study.calibration, study.evaluation
    corpora = {name: find(path) for name, path in calibration.corpora.items()}
    calibration = calibration.model_copy(update={"corpora": corpora})
    if calibration.dataset is None and calibration.corpus is not None:
        calibration = calibration.model_copy(update={"corpus": find(calibration.corpus)})
    if evaluation.tasks_folder is not None:
        evaluation = evaluation.model_copy(update={"tasks_folder": find(evaluation.tasks_folder)})
    return study.model_copy(update={"models": models, "calibration": calibration, "evaluation": evaluation})


def describe(error: ValidationError, root: type[Section] = Study) -> str:
    """The first thing that is wrong with a ``root``, as ``key: value is not one of …``."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("literal[", "list[")))
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here: {', '.join(allowed_keys(first['loc'][:-1], root))}"
    if first["type"] == "missing":
        return f"{key}: this key is missing"
    if first["type"] == "bool_type":
        return f"{key}: {first['input']!r} is neither true nor false"
    if first["type"] == "literal_error":
        allowed = first["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        reason = " (gptqmodel's kernels)" if "group_size" in key else ""
        return f"{key}: {first['input']} is not one of {allowed}{reason}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {first['input']!r}: {message[0].lower()}{message[1:]}"


def allowed_keys(location: tuple[int | str, ...], root: type[Section]) -> list[str]:
    """The keys that a ``root`` may have at a location such as ("grids", 0)."""
    section = root
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = section_within(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def section_within(annotation: object) -> type[Section] | None:
    """The section that an annotation such as ``list[Model]`` holds, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (section := section_within(part)) is not None:
            return section
    return None
