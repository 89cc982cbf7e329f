from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:summarize",
    study=snakemake.input.study,
    observations=snakemake.input.observations,
    laws=snakemake.input.laws,
    summary=snakemake.output[0],
)
