from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:score_items",
    evaluation=snakemake.params.evaluation,
    requests=snakemake.input.requests,
    documents=snakemake.input.documents,
    answers=snakemake.input.answers,
    scores=snakemake.output.scores,
    accuracies=snakemake.output.accuracies,
    tasks=snakemake.params.tasks,
    with_gaps=snakemake.params.get("with_gaps", False),
)
