from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:fit_laws",
    study=snakemake.params.study,
    observations=snakemake.input.observations,
    items=snakemake.input.items_parquet,
    coverage=snakemake.input.coverage,
    laws=snakemake.output.laws,
    tables={name: snakemake.output[name] for name in ("exponents", "forms", "verdicts")},
    captions=snakemake.output.captions,
)
