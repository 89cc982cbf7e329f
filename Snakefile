"""What quantization makes language models forget: from a study to its laws.

The study is chosen by the profile, or by `--config study=config/ladder.yaml`; see README.md.
"""


report: "workflow/report/landing.rst"


include: "workflow/rules/study.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/calibration.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/requests.smk"
include: "workflow/rules/loglikelihoods.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/observations.smk"
include: "workflow/rules/coverage.smk"
include: "workflow/rules/laws.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/summary.smk"


rule all:
    "The observations of the study, what of it was covered, the laws that rest on them, figures of both, a page to explore them, and a summary."
    default_target: True
    input:
        rules.observations.output,
        rules.coverage.output,
        rules.laws.output,
        rules.figures.output,
        rules.explorer.output,
        rules.summary.output,
