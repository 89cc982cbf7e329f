from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:provide_model",
    source=snakemake.params.source,
    revision=snakemake.params.revision,
    downloads=snakemake.params.downloads,
    model=snakemake.output[0],
)
