from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:plot_figures",
    study=snakemake.params.study,
    observations=snakemake.input.observations,
    laws=snakemake.input.laws,
    figures=[path for path in snakemake.output if path.endswith((".svg", ".png"))],
    captions=snakemake.output.captions,
)
