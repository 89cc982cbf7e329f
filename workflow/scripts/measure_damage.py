from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:measure_damage",
    models=snakemake.input.models,
    items=snakemake.input.items_parquet,
    damage=snakemake.output.damage,
    captions=snakemake.output.captions,
)
