from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:plot_figures",
    study=snakemake.params.study,
    observations=snakemake.input.observations,
    damage=snakemake.input.damage,
    laws=snakemake.input.laws,
    figures=[path for path in snakemake.output if path.endswith((".svg", ".png"))],
    captions=snakemake.output.captions,
)
