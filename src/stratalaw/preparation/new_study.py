"""A study of one's own as a file to start from: of some models, variants and benchmarks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stratalaw.files import write_text
from stratalaw.models.sources import is_unpinned
from stratalaw.preparation.checks import check_source
from stratalaw.preparation.pin import unpinned
from stratalaw.study import Study, StudyError
from stratalaw.study.definition import validated
from stratalaw.study.variants import Quantization

VARIANT = re.compile(r"w(\d+)-g(-1|\d+)-c(\d+)(?:-s(\d+))?")
BENCHMARK = re.compile(r"(?P<stratum>[^=]+)=(?P<task>[^:=]+):(?P<chance>[^:]+)(?::(?P<metric>[^:]+))?")
DEFAULT_VARIANTS = ("w3-g32-c128", "w3-g128-c128", "w4-g32-c128", "w4-g128-c128")
FACTORS = ("bits", "group_size", "calibration_size", "calibration_seed")


def write_study(path: Path, content: Mapping[str, Any]) -> list[str]:
    """Write a study to a file that is not there yet, once its models and tasks were found to be there.

    Returns:
        The keys of what is on the Hub, and so is to be pinned; of the Hub itself nothing is asked.

    Raises:
        StratalawError: the file is there, the values are no study, or a model's folder or a task is not there or not
            whole; one line names the key and what is allowed.
    """
    if path.exists():
        raise StudyError(f"{path}: is there already; name another file, or edit it")
    if not path.parent.is_dir():
        raise StudyError(f"{path}: there is no folder {path.parent}")
    study = validated(content, Study, str(path))
    for i, model in enumerate(study.models):
        if not is_unpinned(model):
            check_source(model, f"{path}: models.{i}", str(path))
    to_pin = [key for key, _ in unpinned(study)]
    blocks = [yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, width=1000) for key, value in content.items()]
    write_text("\n".join(blocks), path)
    return to_pin


def study_of(
    name: str,
    models: Sequence[str],
    variants: Sequence[str],
    benchmarks: Sequence[str],
    corpus: str,
    tokens: int,
    family: str | None = None,
    tasks_folder: str | None = None,
    items: int | None = None,
) -> dict[str, Any]:
    """The values of a study.

    Args:
        name: of the study.
        models: folders, or repositories of the Hub; the last part is a model's name.
        variants: such as w4-g128-c128; draw 0 of the calibration set unless one is named, as in w4-g128-c128-s1.
        benchmarks: such as reasoning=arc_easy:0.25 or recall=triviaqa:0:exact_match: stratum, task, chance, metric.
        corpus: a file, or OWNER/NAME:FILE for one in a data set of the Hub.
        tokens: of a calibration sample.
        family: of all models; the study's name if not given.
        tasks_folder: see ``study.Tasks``.
        items: see ``study.Tasks``.

    Raises:
        StudyError: an argument is not of its form.
    """
    dataset, separator, file = corpus.partition(":")
    calibration = {"corpus": file, "dataset": dataset} if separator else {"corpus": corpus}
    strata: dict[str, list[dict[str, Any]]] = {}
    for text in benchmarks:
        match = BENCHMARK.fullmatch(text)
        if match is None:
            raise StudyError(
                f"--benchmark {text}: not a stratum, a task and its chance, such as reasoning=arc_easy:0.25 "
                "(and a metric, such as recall=triviaqa:0:exact_match)"
            )
        task: dict[str, Any] = {"task": match["task"], "chance": _number(match["chance"])}
        strata.setdefault(match["stratum"], []).append(task | ({"metric": match["metric"]} if match["metric"] else {}))
    own = {"tasks_folder": tasks_folder, "items": items}
    return {
        "name": name,
        "models": [{"name": _name_of(model), "source": model, "family": family or name} for model in models],
        "grids": grids_of([_quantization(variant) for variant in variants]),
        "calibration": {**calibration, "tokens": tokens},
        "evaluation": {**{key: value for key, value in own.items() if value is not None}, "strata": strata},
    }


def grids_of(variants: Sequence[Quantization]) -> list[dict[str, list[int]]]:
    """Grids that name some variants and no others: one if they are all combinations of their values."""
    values = {factor: sorted({getattr(variant, factor) for variant in variants}) for factor in FACTORS}
    combinations = 1
    for levels in values.values():
        combinations *= len(levels)
    if combinations == len(set(variants)):
        return [{factor: levels for factor, levels in values.items() if (factor, levels) != ("calibration_seed", [0])}]
    bits: dict[tuple[int, int, int], set[int]] = {}
    for variant in variants:
        bits.setdefault((variant.group_size, variant.calibration_size, variant.calibration_seed), set()).add(
            variant.bits
        )
    return [
        {"bits": sorted(some), "group_size": [group], "calibration_size": [size]}
        | ({"calibration_seed": [seed]} if seed else {})
        for (group, size, seed), some in sorted(bits.items())
    ]


def _quantization(name: str) -> Quantization:
    match = VARIANT.fullmatch(name)
    if match is None:
        raise StudyError(
            f"--variant {name}: not a variant such as w4-g128-c128: bits, group size (-1 for a whole row), calibration "
            "samples"
        )
    bits, group, size, seed = match.groups(default="0")
    return Quantization(int(bits), int(group), int(size), int(seed))


def _name_of(source: str) -> str:
    """The last part of a path or of the name of a repository, with what a model's name may hold."""
    return re.sub(r"[^a-z0-9._-]", "-", Path(source).name.lower())


def _number(text: str) -> float | str:
    """A number as such, and a fraction as text; what is neither is refused with the study."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


class _Dumper(yaml.SafeDumper):
    """Blocks of keys, with lists of plain values and the mappings within lists on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=all(isinstance(x, int | str) for x in sequence))

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        is_flat = not any(isinstance(value, list | dict) for value in mapping.values())
        is_entry = is_flat and {"source", "task"} & mapping.keys()
        return super().represent_mapping(tag, mapping, flow_style=bool(is_entry))
