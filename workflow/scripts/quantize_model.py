from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:quantize_model",
    model=snakemake.input.model,
    calibration=snakemake.input.calibration,
    options=snakemake.params.options,
    checkpoint=snakemake.output[0],
)
