from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:build_observations",
    study=snakemake.params.study,
    models=snakemake.input.models,
    checkpoints=snakemake.input.checkpoints,
    scores=snakemake.input.scores,
    csv=snakemake.output.csv,
    parquet=snakemake.output.parquet,
    items=snakemake.output.items_parquet,
    captions=snakemake.output.captions,
)
