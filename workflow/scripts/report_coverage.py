from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:report_coverage",
    study=snakemake.params.study,
    observations=snakemake.input.observations,
    coverage=snakemake.output.coverage,
    failures=snakemake.output.failures,
    captions=snakemake.output.captions,
)
