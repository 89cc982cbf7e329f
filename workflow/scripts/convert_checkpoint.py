from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:convert_checkpoint",
    model=snakemake.input.model,
    source=snakemake.params.source,
    revision=snakemake.params.revision,
    file=snakemake.params.file,
    downloads=snakemake.params.downloads,
    conversion=snakemake.output[0],
)
