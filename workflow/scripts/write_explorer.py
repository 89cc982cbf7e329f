from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:write_explorer",
    study=snakemake.input.study,
    observations=snakemake.input.observations,
    laws=snakemake.input.laws,
    explorer=snakemake.output[0],
)
