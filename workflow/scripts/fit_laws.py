from stratalaw.jobs.run import run
from stratalaw.layout import LAW_TABLES

run(
    snakemake,
    "stratalaw.jobs.stages:fit_laws",
    study=snakemake.params.study,
    not_run=snakemake.params.not_run,
    observations=snakemake.input.observations,
    items=snakemake.input.items_parquet,
    laws=snakemake.output.laws,
    tables={name: snakemake.output[name] for name in LAW_TABLES},
    captions=snakemake.output.captions,
)
