from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:answer_requests",
    model=snakemake.input.model,
    weights=snakemake.input.weights,
    requests=snakemake.input.requests,
    batchings=snakemake.input.batchings,
    tokens_per_batch=snakemake.params.tokens_per_batch,
    threads=snakemake.threads,
    answers=snakemake.output,
    in_part=snakemake.params.get("in_part"),
    originals=snakemake.input.originals,
    documents=snakemake.input.documents,
)
