from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:fetch_corpus",
    dataset=snakemake.params.dataset,
    revision=snakemake.params.revision,
    file=snakemake.params.file,
    corpus=snakemake.output.corpus,
    record=snakemake.output.record,
)
