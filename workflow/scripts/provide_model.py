from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:provide_model",
    source=snakemake.params.source,
    revision=snakemake.params.revision,
    downloads=snakemake.params.downloads,
    model=snakemake.output[0],
)
