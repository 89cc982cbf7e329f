from stratalaw.jobs.run import run

strata = len(snakemake.params.evaluation["strata"])
run(
    snakemake,
    "stratalaw.jobs.stages:record_requests",
    model=snakemake.input.model,
    evaluation=snakemake.params.evaluation,
    scored_by=snakemake.config["scored_by"],
    requests=snakemake.output[:strata],
    batchings=snakemake.output[strata : 2 * strata],
    documents=snakemake.output[2 * strata :],
)
