"""What quantization makes language models forget: from a study to its laws.

The study is the one of the profile, or of `--configfile config/ladder.yaml`; see README.md.
"""


report: "workflow/report/landing.rst"


include: "workflow/rules/study.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/requests.smk"
include: "workflow/rules/calibration.smk"
include: "workflow/rules/checkpoints.smk"
include: "workflow/rules/conversions.smk"
include: "workflow/rules/answers.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/observations.smk"
include: "workflow/rules/coverage.smk"
include: "workflow/rules/damage.smk"
include: "workflow/rules/laws.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/explorer.smk"
include: "workflow/rules/summary.smk"


rule all:
    "All outputs of a study: observations, coverage, damage, laws, figures, tables, the explorer page and the summary."
    default_target: True
    input:
        rules.observations.output,
        rules.coverage.output,
        rules.damage.output,
        rules.laws.output,
        rules.figures.output,
        rules.tables.output,
        rules.explorer.output,
        rules.summary.output,


rule prepared:
    "All that may need a network: models, requests, calibration samples and existing checkpoints. Where nodes have none, it is run first."
    input:
        lambda wildcards: [
            output
            for job in jobs_of(STUDY, RESULTS)
            if job.stage.name in ("models", "requests", "calibration", "conversions")
            for output in job.outputs
        ],
