from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:record_requests",
    model=snakemake.input.model,
    evaluation=snakemake.params.evaluation,
    requests=[path for path in snakemake.output if path.endswith(".parquet")],
    plans=[path for path in snakemake.output if path.endswith(".safetensors")],
)
