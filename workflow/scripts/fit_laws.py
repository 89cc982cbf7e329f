from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:fit_laws",
    observations=snakemake.input.observations,
    items=snakemake.input.items_parquet,
    coverage=snakemake.input.coverage,
    laws=snakemake.output.laws,
    tables={name: snakemake.output[name] for name in ("exponents", "forms", "verdicts")},
)
