"""The study, read once, and what its names may look like."""

import sys
from pathlib import Path

from stratalaw.study import StudyError, read_study
from stratalaw.variants import BASELINE_NAME

STUDY_FILE = config.get("study", "config/demo.yaml")
try:
    STUDY = read_study(Path(STUDY_FILE))
except StudyError as error:
    sys.exit(str(error))

MODELS = {model.name: model for model in STUDY.models}
STRATA = list(STUDY.evaluation.strata)
VARIANTS = STUDY.variants()


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
