from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:measure_damage",
    models=snakemake.input.models,
    mixed=snakemake.input.mixed,
    items=snakemake.input.items_parquet,
    csv=snakemake.output.csv,
    parquet=snakemake.output.parquet,
    captions=snakemake.output.captions,
)
