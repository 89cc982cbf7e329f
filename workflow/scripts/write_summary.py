from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:write_summary",
    study=snakemake.params.study,
    observations=snakemake.input.observations,
    damage=snakemake.input.damage,
    laws=snakemake.input.laws,
    summary=snakemake.output[0],
)
