"""The stages of the workflow and the jobs of a study, for everything that needs them: rules, status and cost.

A stage has one name: that of its rule, of its file in ``workflow/rules/``, of its folders in ``results/``,
``results/logs/`` and ``results/timings/``, and of its row or column wherever stages are listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stratalaw.layout import Results
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME, draw_of, seed_and_mixture


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow.

    Attributes:
        name: of its rule.
        makes: what one job of it makes, in words.
        of: what one job is for: the ``study``, each ``model``, each ``draw`` of a model's calibration set, or each
            ``variant`` of a model.
        on_gpu: whether its jobs use a GPU where there is one.
    """

    name: str
    makes: str
    of: str
    on_gpu: bool = False


# In the order of the data. calibration comes after requests, whose texts its samples must not contain.
STAGES = (
    Stage("models", "a model's folder, whole and checked", of="model"),
    Stage("corpus", "the calibration text", of="study"),
    Stage("requests", "every request that lm-eval makes, tokenized", of="model"),
    Stage("calibration", "a draw of calibration samples", of="draw"),
    Stage("checkpoints", "a GPTQ checkpoint with its audit", of="variant", on_gpu=True),
    Stage("conversions", "the dense weights of an existing checkpoint, with its audit", of="variant"),
    Stage("answers", "a variant's answers to the requests", of="variant", on_gpu=True),
    Stage("scores", "the score of each item by lm-eval's metrics", of="variant"),
    Stage("observations", "the accuracy of every variant on every benchmark", of="study"),
    Stage("coverage", "what was observed of what the study names", of="study"),
    Stage("damage", "each variant beside its original, paired by item", of="study"),
    Stage("laws", "the fitted laws", of="study"),
    Stage("figures", "the figures", of="study"),
    Stage("tables", "the tables as pages", of="study"),
    Stage("explorer", "the interactive page", of="study"),
    Stage("summary", "the report's landing page", of="study"),
)
STAGE = {stage.name: stage for stage in STAGES}


@dataclass(frozen=True)
class Job:
    """A job of a study.

    Attributes:
        stage: its stage.
        name: what it is for, as its log is named: ``STUDY``, ``MODEL``, ``MODEL/DRAW`` or ``MODEL/VARIANT``.
        model: the model; empty for a job of the whole study.
        variant: the variant's name; empty for other jobs.
        outputs: what it makes.
        log: the file with what it printed.
        slurm_logs: the folder of Slurm's logs of the job.
        after: indices, in the list of all jobs, of those that must have ended.
    """

    stage: Stage
    name: str
    model: str
    variant: str
    outputs: tuple[Path, ...]
    log: Path
    slurm_logs: Path
    after: tuple[int, ...]

    def is_done(self) -> bool:
        return all(output.exists() for output in self.outputs)


def jobs_of(study: Study, results: Results) -> list[Job]:
    """All jobs of a study; each comes after those that it waits for."""
    jobs: list[Job] = []
    places: dict[tuple[str, str], int] = {}
    strata, calibration = list(study.evaluation.strata), study.calibration
    models = [model.name for model in study.models]
    variants = study.variant_names()
    existing = [(model.name, checkpoint.name) for model in study.models for checkpoint in model.checkpoints]
    quantized = [pair for pair in variants if pair[1] != BASELINE_NAME and pair not in existing]

    def add(
        stage: str, outputs: Iterable[Path], after: Iterable[tuple[str, str]] = (), model: str = "", part: str = ""
    ) -> None:
        name = "/".join(filter(None, (model or study.name, part)))
        slurm = results.slurm_logs / f"rule_{stage}" / "_".join(filter(None, [model, part]))
        places[stage, name] = len(jobs)
        variant = part if STAGE[stage].of == "variant" else ""
        waits_for = tuple(places[key] for key in after)
        jobs.append(Job(STAGE[stage], name, model, variant, tuple(outputs), results.log(stage, name), slurm, waits_for))

    for model in models:
        add("models", [results.model(model)], model=model)
    if calibration.dataset is not None:
        add("corpus", [results.corpus(calibration), results.corpus_record(calibration)])
    for model in models:
        kinds = (results.requests, results.batches, results.documents)
        recorded = [file(model, stratum) for stratum in strata for file in kinds]
        add("requests", recorded, [("models", model)], model)
    text = [] if calibration.dataset is None else [("corpus", study.name)]
    draws = {(model, draw_of(variant)) for model, variant in quantized}
    for model, draw in sorted(draws, key=lambda one: (models.index(one[0]), seed_and_mixture(one[1]))):
        asked = [("requests", model)] if calibration.overlap_words else []
        fetched = [] if seed_and_mixture(draw)[1] else text
        add("calibration", [results.calibration(model, draw)], [("models", model), *fetched, *asked], model, draw)
    for model, variant in quantized:
        drawn = ("calibration", f"{model}/{draw_of(variant)}")
        add("checkpoints", [results.checkpoint(model, variant)], [("models", model), drawn], model, variant)
    for model, variant in existing:
        add("conversions", [results.conversion(model, variant)], [("models", model)], model, variant)

    def add_answers(model: str, variant: str) -> None:
        stage = "conversions" if (model, variant) in existing else "checkpoints"
        weights = [] if variant == BASELINE_NAME else [(stage, f"{model}/{variant}")]
        original = [("scores", f"{model}/{BASELINE_NAME}")] if in_part and variant != BASELINE_NAME else []
        answered = [results.answers(model, variant, stratum) for stratum in strata]
        add("answers", answered, [("models", model), *weights, ("requests", model), *original], model, variant)

    def add_scores(model: str, variant: str) -> None:
        scored = [file(model, variant, stratum) for stratum in strata for file in (results.scores, results.accuracies)]
        add("scores", scored, [("requests", model), ("answers", f"{model}/{variant}")], model, variant)

    # Variants that are asked some items only are compared with their original while they answer.
    in_part = study.evaluation.paired_stderr is not None
    first = [pair for pair in variants if in_part and pair[1] == BASELINE_NAME]
    for pairs in (first, [pair for pair in variants if pair not in first]):
        for pair in pairs:
            add_answers(*pair)
        for pair in pairs:
            add_scores(*pair)
    measured = [("models", model) for model in models]
    measured += [("checkpoints", f"{model}/{variant}") for model, variant in quantized]
    measured += [("conversions", f"{model}/{variant}") for model, variant in existing]
    measured += [("scores", f"{model}/{variant}") for model, variant in variants]
    add("observations", results.files_of_study(study.name, "observations"), measured)
    observed = ("observations", study.name)
    add("coverage", results.files_of_study(study.name, "coverage"), [observed])
    add("damage", results.files_of_study(study.name, "damage"), [("models", model) for model in models] + [observed])
    add("laws", results.files_of_study(study.name, "laws"), [observed])
    fitted = ("laws", study.name)
    lost, covered = ("damage", study.name), ("coverage", study.name)
    add("figures", results.files_of_study(study.name, "figures"), [observed, lost, fitted])
    add("tables", results.files_of_study(study.name, "tables"), [observed, lost, fitted, covered])
    for stage in ("explorer", "summary"):
        add(stage, results.files_of_study(study.name, stage), [observed, lost, fitted])
    return jobs
