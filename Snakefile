"""What quantization makes language models forget: from a study to its laws.

The study is chosen by the profile, or by `--config study=config/ladder.yaml`; see README.md.
"""


include: "workflow/rules/study.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/calibration.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/requests.smk"
include: "workflow/rules/loglikelihoods.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/observations.smk"
include: "workflow/rules/laws.smk"


rule all:
    "The laws of the study, and the observations that they rest on."
    default_target: True
    input:
        f"results/studies/{STUDY.name}/observations.csv",
        f"results/studies/{STUDY.name}/laws.json",
