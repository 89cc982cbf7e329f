from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:score_items",
    evaluation=snakemake.params.evaluation,
    requests=snakemake.input.requests,
    answers=snakemake.input.answers,
    scores=snakemake.output.scores,
    summary=snakemake.output.summary,
)
