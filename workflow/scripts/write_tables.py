from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:write_pages",
    observations=snakemake.input.observations,
    damage=snakemake.input.damage,
    laws=snakemake.input.laws,
    coverage=snakemake.input.coverage,
    failures=snakemake.input.failures,
    pages=list(snakemake.output),
)
