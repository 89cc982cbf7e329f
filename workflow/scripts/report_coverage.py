from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:report_coverage",
    study=snakemake.input.study,
    observations=snakemake.input.observations,
    coverage=snakemake.output.coverage,
    failures=snakemake.output.failures,
)
