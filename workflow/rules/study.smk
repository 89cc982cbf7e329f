"""The study, read once, and what its names may look like."""

import gc
import os
import re
import sys
from errno import ENOENT
from functools import cache
from pathlib import Path

from snakemake.resources import Resources

from stratalaw.calibration.samples import digest_of_mixture
from stratalaw.contents import Contents
from stratalaw.cost.resources import gpus_of_checkpoint, resources_of_answers, resources_of_checkpoint
from stratalaw.errors import StratalawError
from stratalaw.files import sha256
from stratalaw.jobs.outdated import outdated_jobs, outdated_note
from stratalaw.jobs.packs import PACKED
from stratalaw.jobs.run import export_library
from stratalaw.jobs.software import software_versions
from stratalaw.layout import ACCURACY, COVERAGE, EXPLORER, FIGURES, LAWS, LOST, OBSERVATIONS, PAGES, Results
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.models.sources import files_of, files_of_checkpoint, weights_folder
from stratalaw.observations.coverage import scored_variants
from stratalaw.pipeline import jobs_of
from stratalaw.preparation.checks import check_inputs, task_files
from stratalaw.preparation.neighbours import basis_of, check_neighbours, neighbours_of, samples_of, write_basis
from stratalaw.seals import digest_of
from stratalaw.study.configuration import read_configuration
from stratalaw.study.plain_yaml import read_yaml
from stratalaw.study.variants import (
    BASELINE_NAME,
    DRAW_PATTERN,
    MIXED_PATTERN,
    UNIFORM_PATTERN,
    draw_of,
    is_mixed,
    seed_and_mixture,
)

HERE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
# No study by --configfile, by a profile or by an enclosing workflow.
if not workflow.configfiles and not config.keys() - workflow.config_settings.config.keys():

    configfile: HERE.parents[1] / "config" / "config.yaml"


STUDY_FILE = " and ".join(os.path.relpath(file) for file in workflow.configfiles) or "config"
RESULTS = Results()
CONTENTS = Contents(RESULTS.hashes)


@cache
def content_of(*files):
    """A digest of files of this machine, which is another once one of them has changed, whatever its time stamp."""
    return CONTENTS.digest(files)


try:
    for file in workflow.configfiles:
        read_yaml(Path(file))  # Snakemake takes a key that stands twice
    STUDY, OPTIONS = read_configuration(
        config,
        workflow.config_settings.config,
        STUDY_FILE,
        [
            Path(),
            *(folder for file in workflow.configfiles for folder in Path(file).resolve().parents),
            HERE.parents[1],
        ],
    )
    NEIGHBOURS = neighbours_of(STUDY, STUDY_FILE, RESULTS)
    if workflow.is_main_process:
        config["report_style"] = Path(workflow.source_path("../report/style.css")).read_text()
        check_inputs(STUDY, STUDY_FILE)
        BASIS = basis_of(STUDY, STUDY_FILE, RESULTS, content_of)
        check_neighbours(BASIS, NEIGHBOURS, RESULTS)
        if outdated := outdated_jobs(STUDY, RESULTS):
            print(outdated_note(outdated, STUDY_FILE), file=sys.stderr)
    VARIANTS = STUDY.variants()
    # The study is analysed as far as it is scored only if that is asked for: nothing is left out silently.
    OBSERVED = scored_variants(STUDY, RESULTS) if OPTIONS.allow_missing else VARIANTS
    NOT_RUN = sorted({*STUDY.variant_names()} - {*zip(OBSERVED.model, OBSERVED.variant, strict=True)})
except StratalawError as error:
    sys.exit(str(error))

export_library()
# Snakemake makes millions of objects to plan a large study and drops hardly any: looking for garbage among them as often
# as Python does takes a seventh of the time.
gc.freeze()
gc.set_threshold(100_000)
GPU_JOBS = (asked := workflow.global_resources.get("gpu")) and asked.value  # none, or one without a value
# Where a core is left beside a GPU, a variant is finished before the next is begun: it is scored while the GPU is at the
# next. Elsewhere jobs of one kind go together: the cores that one checkpoint takes are for several answers, or scores.
CORES = workflow.resource_settings.cores or 0  # none for Slurm, and where no job is run
SCORED_BESIDE = GPU_JOBS and CORES > STUDY.gptq.threads
PRIORITY = {"answers": 1, "scores": 2} if SCORED_BESIDE else {"answers": 0, "scores": 0}
# For the scripts of jobs, which see the configuration: what they obey, and what requests are checked against. No
# parameters, since nothing that is made depends on them.
config["scored_by"] = STUDY.evaluation.scored_by()
# To start processes that stay takes longer than they save a study of few variants.
config["keeps_processes"] = len(STUDY.variant_names()) >= 20
IS_PACKED = PACKED in os.environ  # one GPU, and processes that stay for all jobs of the pack
RUN_HERE = IS_PACKED or (workflow.is_main_process and workflow.local_exec)
config |= OPTIONS.for_jobs(RUN_HERE, 1 if IS_PACKED else GPU_JOBS)

MODELS = {model.name: model for model in STUDY.models}
NAMED = set(STUDY.variant_names())
EXISTING = {(model.name, one.name): one for model in STUDY.models for one in model.checkpoints}
STRATA = list(STUDY.evaluation.strata)
# Jobs depend on the content of local inputs, not on their time stamps: copied by rsync or unpacked, a changed file can be
# older than the results, and an unchanged one newer. So inputs are ``ancient``, and digests of them are params.
TASKS = [ancient(file) for file in task_files(STUDY.evaluation)]
CONTENT_OF_TASKS = digest_of(sha256(Path(file)) for file in TASKS)
REQUESTS = [RESULTS.requests("{model}", stratum) for stratum in STRATA]
DOCUMENTS = [RESULTS.documents("{model}", stratum) for stratum in STRATA]
BATCHES = [RESULTS.batches("{model}", stratum) for stratum in STRATA]


onstart:
    if workflow.is_main_process:
        # Jobs need not load these.
        from stratalaw.jobs.progress import follow_run
        from stratalaw.preparation.preflight import refuse_what_cannot_run, smallest_gpu_bytes

        planned = [(job.rule.name, dict(job.wildcards.items())) for job in workflow.dag.needrun_jobs()]
        wanted = {wildcards.get("model") for _, wildcards in planned}
        try:
            for line in refuse_what_cannot_run(STUDY, STUDY_FILE, wanted, jobs_run_here=workflow.local_exec):
                logger.info(line)
        except StratalawError as error:  # of the study, or of a download
            sys.exit(str(error))
        write_basis(BASIS, RESULTS)
        on_gpus = not workflow.local_exec or smallest_gpu_bytes() < float("inf")
        follow_run(logger, STUDY, STUDY_FILE, RESULTS, planned, jobs_at_once(on_gpus), on_gpus)


onsuccess:
    if workflow.is_main_process:
        from stratalaw.jobs.ending import lines_of_success
        from stratalaw.jobs.progress import failed_jobs

        failed_jobs(logger)
        logger.info("\n".join(lines_of_success(STUDY, STUDY_FILE, RESULTS, sys.argv[1:])))


onerror:
    if workflow.is_main_process:
        from stratalaw.jobs.ending import lines_of_failure
        from stratalaw.jobs.progress import failed_jobs

        logger.error("\n".join(lines_of_failure(STUDY_FILE, failed_jobs(logger), sys.argv[1:])))


wildcard_constraints:
    model="|".join(MODELS),
    variant="|".join(
        [BASELINE_NAME, UNIFORM_PATTERN.pattern, MIXED_PATTERN.pattern, *{re.escape(name) for _, name in EXISTING}]
    ),
    draw=DRAW_PATTERN.pattern,


def jobs_at_once(on_gpus):
    """Jobs with a GPU that run at once; where there is none, jobs."""
    if not workflow.local_exec:
        return workflow.nodes
    return GPU_JOBS if on_gpus and GPU_JOBS else workflow.cores // STUDY.gptq.threads


def of_study(file):
    """A file of this study."""
    return RESULTS.of_study(STUDY.name, file)


def captions(stage):
    """What the report says of the files of a stage."""
    return RESULTS.captions(STUDY.name, stage)


def corpora_of(wildcards):
    """The files that a draw is from, by the names that its seal gives them."""
    _, mixture = seed_and_mixture(wildcards.draw)
    return RESULTS.corpora(STUDY.calibration, mixture)


def parts_of(wildcards):
    """The parts that corpora have in a mixture; none for a draw from the study's corpus."""
    return STUDY.calibration.mixtures.get(seed_and_mixture(wildcards.draw)[1])


def is_fetched(wildcards):
    """Whether a draw is from a corpus of the Hub: those of mixtures are on this machine."""
    return STUDY.calibration.dataset is not None and parts_of(wildcards) is None


def content_of_draw(wildcards):
    """What a draw depends on but for its model and number, as far as it is on this machine."""
    content = content_of(*([] if is_fetched(wildcards) else corpora_of(wildcards).values()))
    parts = parts_of(wildcards)
    return content if parts is None else digest_of([content, digest_of_mixture(parts)])


@cache
def samples_of_mixture(mixture):
    """How many samples are drawn from a mixture, or from the study's corpus."""
    return samples_of(STUDY, NEIGHBOURS, mixture)


def samples_for(wildcards):
    """The calibration samples of a variant; none but those that the study names are made."""
    if (wildcards.model, wildcards.variant) not in NAMED:
        sys.exit(f"{STUDY_FILE}: {wildcards.model}/{wildcards.variant} is no variant of the study; name it in a grid")
    return RESULTS.calibration(wildcards.model, draw_of(wildcards.variant))


def gptq_of(wildcards):
    """The options of GPTQ, and of a mixed variant the bits of each matrix, which its name does not say."""
    quantization = STUDY.quantization_of(wildcards.model, wildcards.variant)
    allocation = {"allocation": quantization.allocation} if is_mixed(wildcards.variant) else {}
    return STUDY.gptq.model_dump() | allocation


def is_asked_in_part(wildcards):
    """Whether a variant is asked items only until its difference from the original is known well enough."""
    return STUDY.evaluation.paired_stderr is not None and wildcards.variant != BASELINE_NAME


def for_part(file):
    """A file of each stratum that a variant needs if it is asked some items only."""
    return lambda wildcards: [file(wildcards.model, stratum) for stratum in STRATA if is_asked_in_part(wildcards)]


def in_part(wildcards):
    """When a variant is asked no further items; none if it is asked all of them."""
    if not is_asked_in_part(wildcards):
        return None
    return {
        "goal": STUDY.evaluation.paired_stderr,
        "evaluation": STUDY.evaluation.for_scores(),
        "tasks": CONTENT_OF_TASKS,
    }


def made_by(*packages):
    """The versions of the software that determines a cached output, which the cache then tells apart."""
    # Of params that come from a function of the input snakemake keeps no record, so finished jobs are not rerun after an
    # update; it hashes them for the cache all the same.
    return lambda wildcards, input: software_versions(*packages)


# Snakemake asks for each resource of each job by itself; an error is not kept.
@cache
def shapes_of_model(name):
    """Shapes of a model; before it is fetched nobody knows them, and snakemake asks again once the model is there."""
    folder = weights_folder(MODELS[name], RESULTS)
    if folder is None:
        raise FileNotFoundError(ENOENT, "not fetched yet", str(RESULTS.model(name)))
    return shapes_of_weights(folder)


@cache
def asked_by_checkpoint(model, variant, attempt):
    """What a quantization asks for, by model, calibration and attempt."""
    return resources_of_checkpoint(
        shapes_of_model(model),
        STUDY.quantization_of(model, variant),
        tokens=STUDY.calibration.tokens,
        batch_size=STUDY.gptq.batch_size,
        attempt=attempt,
    )


@cache
def asked_by_answers(model, attempt):
    """What the answers of a variant ask for, by model, benchmarks and attempt."""
    return resources_of_answers(shapes_of_model(model), STUDY.evaluation, attempt=attempt)


def for_checkpoint(resource):
    """What a quantization asks for of a resource."""
    return lambda wildcards, attempt: getattr(
        asked_by_checkpoint(wildcards.model, wildcards.variant, attempt), resource
    )


def gpus_of(wildcards, attempt):
    """How many GPUs a quantization runs on."""
    expected = asked_by_checkpoint(wildcards.model, wildcards.variant, attempt).expected_seconds
    return gpus_of_checkpoint(expected, OPTIONS.gpus_per_checkpoint)


def share_among_gpus(resources):
    """Have quantizations, if a profile gives them a GPU, ask for as many as are worth it.

    Of the resource ``gpu`` a job with several takes what the jobs take that could share them. On Slurm it is one task on
    one node (``tasks_per_gpu`` 0: no task for each GPU).
    """
    if "gpu" not in resources:
        return

    def places(wildcards, attempt):
        gpus = gpus_of(wildcards, attempt)
        return gpus * config["jobs_per_gpu"] if gpus > 1 else 1

    def tasks_per_gpu(wildcards, attempt):
        return int(gpus_of(wildcards, attempt) == 1)

    resources.update(Resources.from_mapping({"gpu": places, "tasks_per_gpu": tasks_per_gpu, "nodes": 1}))


def for_answers(resource):
    """What the answers of a variant ask for of a resource."""
    return lambda wildcards, attempt: getattr(asked_by_answers(wildcards.model, attempt), resource)
