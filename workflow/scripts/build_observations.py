from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:build_observations",
    study=snakemake.input.study,
    models=snakemake.input.models,
    checkpoints=snakemake.input.checkpoints,
    scores=snakemake.input.scores,
    csv=snakemake.output.csv,
    parquet=snakemake.output.parquet,
    items=snakemake.output.items_parquet,
)
