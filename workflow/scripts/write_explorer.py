from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:write_explorer",
    study=snakemake.params.study,
    observations=snakemake.input.observations,
    damage=snakemake.input.damage,
    laws=snakemake.input.laws,
    explorer=snakemake.output.page,
    captions=snakemake.output.captions,
)
