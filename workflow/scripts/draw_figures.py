from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:draw_figures",
    observations=snakemake.input.observations,
    laws=snakemake.input.laws,
    figures=snakemake.output,
)
