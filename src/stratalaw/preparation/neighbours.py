"""Studies that were run in one folder: they share what they have in common, and must not overwrite the rest.

What a job makes is named after the model, the variant and the stratum. Two studies that use one of these names for
different things (another model, other items, another calibration text) would make each other's results again, each time
that one of them runs. So a study writes down what it rests on before its first job, and one that clashes is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratalaw.errors import StratalawError
from stratalaw.layout import Results
from stratalaw.models.sources import files_of
from stratalaw.preparation.checks import task_files
from stratalaw.seals import Seal, read_record, write_record
from stratalaw.study import Study, StudyError
from stratalaw.study.variants import calibration_of, draw_of, is_quantized_here

KIND = "study"
RECORD = "study.json"


@dataclass(frozen=True)
class Basis:
    """What the results of a study rest on.

    Attributes:
        study: the study.
        file: where it was read from.
        contents: digests of what it names on this machine: ``models.NAME``, ``corpus``, ``corpora.NAME``, ``tasks``.
    """

    study: Study
    file: str
    contents: Mapping[str, str]

    def model(self, name: str) -> str:
        """Which model a name stands for, as text."""
        model = next(model for model in self.study.models if model.name == name)
        return self.contents.get(f"models.{name}") or f"{model.source}@{model.revision}"

    def evaluation(self) -> dict[str, Any]:
        """What answers and scores depend on, by key of the study."""
        asked = self.study.evaluation
        values = {
            **asked.for_scores(),
            "tokens_per_batch": asked.tokens_per_batch,
            "paired_stderr": asked.paired_stderr,
        }
        return values | {"tasks_folder": self.contents.get("tasks")}

    def calibration(self, mixture: str) -> dict[str, Any]:
        """What calibration samples depend on, but for their number, by key of the study; ``mixture``: empty for those
        of the study's corpus."""
        drawn = self.study.calibration.of_draws(mixture)
        asked = {"evaluation": self.evaluation()} if drawn["overlap_words"] else {}
        if not mixture:
            return drawn | {"corpus": self.contents.get("corpus", drawn["corpus"])} | asked
        corpora = {name: self.contents.get(f"corpora.{name}", path) for name, path in drawn["corpora"].items()}
        return drawn | {"corpora": corpora} | asked


def basis_of(study: Study, file: str, results: Results, content_of: Callable[..., str]) -> Basis:
    """What a study rests on.

    Args:
        study: the study.
        file: where it was read from.
        results: where its results are.
        content_of: a digest of files.
    """
    contents = {f"models.{model.name}": content_of(*files) for model in study.models if (files := files_of(model))}
    if study.calibration.dataset is None and study.calibration.corpus is not None:
        contents["corpus"] = content_of(results.corpus(study.calibration))
    contents |= {f"corpora.{name}": content_of(Path(file)) for name, file in study.calibration.corpora.items()}
    if files := task_files(study.evaluation):
        contents["tasks"] = content_of(*files)
    return Basis(study, file, contents)


def write_basis(basis: Basis, results: Results) -> None:
    """Write down what a study rests on, for the other studies of the folder."""
    content = {"file": basis.file, "study": basis.study.as_plain(), "contents": basis.contents}
    write_record(content, results.of_study(basis.study.name, RECORD), Seal(KIND, {"study": basis.study.name}, {}))


def neighbours_of(study: Study, file: str, results: Results) -> list[Basis]:
    """The other studies that were run in a folder: those of other files, if of the same name, then of files that are
    still there."""
    others = []
    for path in sorted(results.of_study("").glob(f"*/{RECORD}")):
        try:
            record = read_record(path, KIND)
            other = Basis(Study(**record["study"]), record["file"], record["contents"])
        except (OSError, StratalawError, ValueError, KeyError, TypeError):
            continue  # damaged, or of another version: nothing is known of it
        # Of what a file held before, or a file that is gone, nothing can be run again.
        is_same_file = Path(other.file).resolve() == Path(file).resolve()
        is_edited = is_same_file or (other.study.name == study.name and not Path(other.file).exists())
        if not is_edited:
            others.append(other)
    return others


def check_neighbours(basis: Basis, others: Sequence[Basis], results: Results) -> None:
    """Refuse a study whose results would overwrite those of another study.

    Raises:
        StudyError: one line names the other study, what differs, and what to do.
    """
    for other in others:
        if clash := next(clashes(basis, other), None):
            what, model, key = clash
            name, folder = other.study.name, results.of_study(other.study.name)
            raise StudyError(
                f"{basis.file}: its {what} of {model} would overwrite those of the study {name} ({other.file}), where "
                f"{key} differs; run it in a folder of its own (snakemake --directory FOLDER), name its model "
                f"{model} otherwise, or, if {name} is not needed any more, delete {folder}"
            )


def clashes(one: Basis, other: Basis) -> Iterator[tuple[str, str, str]]:
    """What two studies would both make under one name: the files, their model, and the key in which they differ."""
    names = {model.name for model in other.study.models}
    shared = [model.name for model in one.study.models if model.name in names]
    for name in shared:
        if one.model(name) != other.model(name):
            yield "files", name, "models.source"
    quantized, of_other = (
        [pair for pair in study.variant_names() if is_quantized_here(pair[1])] for study in (one.study, other.study)
    )
    draws = {(model, draw_of(variant)) for model, variant in of_other}
    drawn = [(model, variant) for model, variant in quantized if (model, draw_of(variant)) in draws]
    for mixture, model in {calibration_of(variant)[2]: model for model, variant in reversed(drawn)}.items():
        if key := first_difference(one.calibration(mixture), other.calibration(mixture)):
            yield "calibration samples", model, f"calibration.{key}"
    variants = {*of_other}
    made = [pair for pair in quantized if pair in variants]
    if made and (key := first_difference(one.study.gptq.model_dump(), other.study.gptq.model_dump())):
        yield "checkpoints", made[0][0], f"gptq.{key}"
    share_strata = bool(one.study.evaluation.strata.keys() & other.study.evaluation.strata.keys())
    if shared and share_strata and (key := first_difference(one.evaluation(), other.evaluation())):
        yield "answers", shared[0], f"evaluation.{key}"


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first key that has another value in two mappings; None if there is none."""
    return next((key for key in {**one, **other} if one.get(key) != other.get(key)), None)


def samples_of(study: Study, others: Sequence[Basis], mixture: str = "") -> int:
    """Calibration samples to draw from a mixture, or from the study's corpus: as many as a study needs, and those that
    draw the same text.

    Smaller sets are prefixes of larger ones, so that studies of different sizes do not draw each other's anew.
    """
    alike = [other.study for other in others if not mixture or mixture in other.study.calibration.mixtures]
    drawn = study.calibration.of_draws(mixture)
    studies = [study, *(other for other in alike if other.calibration.of_draws(mixture) == drawn)]
    sizes = [calibration_of(name) for each in studies for _, name in each.variant_names() if is_quantized_here(name)]
    return max((size for size, _, of in sizes if of == mixture), default=0)
