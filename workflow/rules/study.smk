"""The study, read once, and what its names may look like."""

import sys
from pathlib import Path

from stratalaw.inputs import check_inputs, corpus_file, files_of
from stratalaw.jobs import export_library
from stratalaw.laws.resampling import RESAMPLES
from stratalaw.study import StudyError, read_study
from stratalaw.summary import describe_study
from stratalaw.variants import BASELINE_NAME

STUDY_FILE = config.get("study", "config/demo.yaml")
try:
    STUDY = read_study(Path(STUDY_FILE))
    if workflow.is_main_process:
        check_inputs(STUDY, STUDY_FILE)
except StudyError as error:
    sys.exit(str(error))

export_library()

MODELS = {model.name: model for model in STUDY.models}
STRATA = list(STUDY.evaluation.strata)
VARIANTS = STUDY.variants()
CORPUS = corpus_file(STUDY.calibration)
REQUESTS = expand("results/requests/{{model}}/{stratum}.parquet", stratum=STRATA)
PLANS = expand("results/requests/{{model}}/{stratum}.plan.safetensors", stratum=STRATA)
ABOUT = describe_study(STUDY)
config["name"] = STUDY.name  # for the landing page of the report


wildcard_constraints:
    model="|".join(MODELS),
    stratum="|".join(STRATA),
    bits=r"\d+",
    group_size=r"-1|\d+",
    samples=r"\d+",
    seed=r"\d+",


def weights_of(wildcards):
    """The folder with the weights of a variant: the model itself, or a checkpoint."""
    if wildcards.variant == BASELINE_NAME:
        return f"results/models/{wildcards.model}"
    return f"results/checkpoints/{wildcards.model}/{wildcards.variant}"
