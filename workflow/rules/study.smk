"""The study, read once, and what its names may look like."""

import sys
from errno import ENOENT
from functools import cache
from pathlib import Path

from stratalaw.coverage import scored_variants
from stratalaw.description import describe_study
from stratalaw.inputs import check_inputs, corpus_file, files_of, task_files, weights_folder
from stratalaw.jobs import export_library
from stratalaw.resamples import RESAMPLES
from stratalaw.resources import resources_of_evaluation, resources_of_quantization
from stratalaw.shapes import shapes_of_weights
from stratalaw.software import software_versions
from stratalaw.study import StudyError, read_study
from stratalaw.variants import BASELINE_NAME, Quantization

STUDY_FILE = config.get("study", "config/demo.yaml")
try:
    STUDY = read_study(Path(STUDY_FILE))
    if workflow.is_main_process:
        check_inputs(STUDY, STUDY_FILE)
    VARIANTS = STUDY.variants()
    # The study is analysed as far as it is scored only if that is asked for: nothing is left out silently.
    OBSERVED = scored_variants(STUDY, Path("results")) if config.get("allow_missing") else VARIANTS
except StudyError as error:
    sys.exit(str(error))

export_library()

MODELS = {model.name: model for model in STUDY.models}
STRATA = list(STUDY.evaluation.strata)
CORPUS = corpus_file(STUDY.calibration)
TASKS = task_files(STUDY.evaluation)
REQUESTS = expand("results/requests/{{model}}/{stratum}.parquet", stratum=STRATA)
PLANS = expand("results/requests/{{model}}/{stratum}.plan.safetensors", stratum=STRATA)
ABOUT = describe_study(STUDY)
config["name"] = STUDY.name  # for the landing page of the report


onstart:
    if workflow.is_main_process:
        from stratalaw.preflight import refuse_what_cannot_run  # jobs need not load it

        wanted = {job.wildcards.get("model") for job in workflow.dag.needrun_jobs()}
        try:
            refuse_what_cannot_run(STUDY, STUDY_FILE, wanted, jobs_run_here=workflow.local_exec)
        except ValueError as error:  # of the study, or of a download
            sys.exit(str(error))


wildcard_constraints:
    model="|".join(MODELS),
    stratum="|".join(STRATA),
    bits=r"\d+",
    group_size=r"-1|\d+",
    samples=r"\d+",
    seed=r"\d+",


def made_by(*packages):
    """The versions of the software that determines a cached output, which the cache then tells apart."""
    # Of params that come from a function of the input snakemake keeps no record, so finished jobs are not rerun after an
    # update; it hashes them for the cache all the same.
    return lambda wildcards, input: software_versions(*packages)


def weights_of(wildcards):
    """The folder with the weights of a variant: the model itself, or a checkpoint."""
    if wildcards.variant == BASELINE_NAME:
        return f"results/models/{wildcards.model}"
    return f"results/checkpoints/{wildcards.model}/{wildcards.variant}"


@cache
def shapes_in(folder):
    return shapes_of_weights(folder)


def shapes_of_model(name, needed):
    """Shapes of a model; before it is fetched nobody knows them, and snakemake asks again once the ``needed`` file is there."""
    folder = weights_folder(MODELS[name])
    if folder is None:
        raise FileNotFoundError(ENOENT, "not fetched yet", needed)
    return shapes_in(folder)


def for_quantization(resource):
    """What a quantization asks for of a resource, by model, calibration and attempt."""

    def amount(wildcards, attempt):
        quantization = Quantization(
            int(wildcards.bits), int(wildcards.group_size), int(wildcards.samples), int(wildcards.seed)
        )
        asked = resources_of_quantization(
            shapes_of_model(wildcards.model, f"results/models/{wildcards.model}"),
            quantization,
            tokens=STUDY.calibration.tokens,
            batch_size=STUDY.gptq.batch_size,
            attempt=attempt,
        )
        return getattr(asked, resource)

    return amount


def for_evaluation(resource):
    """What the answers of a variant ask for of a resource, by model, benchmarks and attempt."""

    def amount(wildcards, attempt):
        asked = resources_of_evaluation(
            shapes_of_model(wildcards.model, weights_of(wildcards)),
            STUDY.evaluation,
            attempt=attempt,
        )
        return getattr(asked, resource)

    return amount
