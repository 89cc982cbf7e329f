from stratalaw.jobs import run

run(snakemake, "stratalaw.stages:copy_model", source=snakemake.params.source, model=snakemake.output[0])
