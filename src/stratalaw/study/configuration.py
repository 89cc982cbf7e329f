"""The configuration of a run of the workflow: a study, and the options of the workflow beside its keys.

Snakemake merges the files of ``--configfile`` and the entries of ``--config`` into one mapping; here it is taken apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, StrictBool

from stratalaw.study.definition import Section, Study, StudyError, study_of, validated
from stratalaw.study.plain_yaml import YamlError, parse_yaml


class Options(Section):
    """Options of the workflow: how it runs, which changes nothing of what a study measures."""

    allow_missing: StrictBool = False
    """Analyse what was scored, and leave the rest out."""
    warm_worker: StrictBool | None = None
    """Run jobs in processes that have the libraries loaded; if not given, wherever jobs run on this machine."""
    gpus: int | None = Field(default=None, ge=1, le=1000)
    """GPUs of this machine that jobs lease; if not given, as many as the resource ``gpu`` of Snakemake has room for."""
    jobs_per_gpu: int = Field(default=1, ge=1, le=1000)
    """Jobs that share a GPU."""
    gpus_per_checkpoint: int = Field(default=1, ge=1, le=64)
    """GPUs that share the quantization of a large model."""

    def for_jobs(self, run_here: bool, gpu_jobs: int | None) -> dict[str, Any]:
        """What jobs obey.

        Args:
            run_here: whether jobs run on this machine, started by this process.
            gpu_jobs: jobs with a GPU that run at once (Snakemake's resource ``gpu``); None where that has no bound.
        """
        gpus = self.gpus
        if run_here and gpus is None and gpu_jobs is not None:
            gpus = -(-gpu_jobs // self.jobs_per_gpu)
        warm = run_here if self.warm_worker is None else self.warm_worker
        jobs_per_gpu = self.jobs_per_gpu if run_here else 1
        return self.model_dump() | {"warm_worker": warm, "gpus": gpus, "jobs_per_gpu": jobs_per_gpu}


def read_configuration(
    config: Mapping[str, Any], overrides: Mapping[str, Any], origin: str, folders: Sequence[Path]
) -> tuple[Study, Options]:
    """The study and the options that a workflow's configuration holds.

    Args:
        config: as Snakemake merged it.
        overrides: the entries of ``--config`` in it, in which Snakemake leaves nested numbers as text.
        origin: where it comes from, for messages.
        folders: where relative paths of the study are looked for, in this order.

    Raises:
        StudyError: one line names the key and what is allowed.
    """
    try:
        content = merged(config, with_types(overrides))
    except YamlError as error:
        raise StudyError(f"{origin}: --config: {error}") from None
    options = {key: content.pop(key) for key in Options.model_fields if key in content}
    if unknown := sorted(content.keys() - Study.model_fields.keys()):
        raise StudyError(
            f"{origin}: {unknown[0]}: neither a key of a study ({', '.join(Study.model_fields)}) "
            f"nor an option of the workflow ({', '.join(Options.model_fields)})"
        )
    return study_of(content, origin, folders), validated(options, Options, origin)


def merged(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the values of ``overrides`` in place of its own, mappings key by key."""
    content = dict(config)
    for key, value in overrides.items():
        former = content.get(key)
        content[key] = merged(former, value) if isinstance(former, Mapping) and isinstance(value, Mapping) else value
    return content


def with_types(value: Any) -> Any:
    """Text as YAML reads it (a number, a boolean, or text), however deep; raises YamlError where it is none."""
    if isinstance(value, str):
        return parse_yaml(value)
    if isinstance(value, Mapping):
        return {key: with_types(part) for key, part in value.items()}
    if isinstance(value, list):
        return [with_types(part) for part in value]
    return value
