from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:answer_requests",
    weights=snakemake.input.weights,
    requests=snakemake.input.requests,
    plans=snakemake.input.plans,
    tokens_a_batch=snakemake.params.tokens_a_batch,
    threads=snakemake.threads,
    answers=snakemake.output,
)
