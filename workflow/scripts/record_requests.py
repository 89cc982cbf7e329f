from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:record_requests",
    model=snakemake.input.model,
    evaluation=snakemake.params.evaluation,
    requests=[path for path in snakemake.output if path.endswith(".parquet")],
    batchings=[path for path in snakemake.output if path.endswith(".safetensors")],
)
