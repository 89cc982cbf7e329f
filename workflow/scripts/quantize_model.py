from stratalaw.jobs.run import gpus_of, run

run(
    snakemake,
    "stratalaw.jobs.stages:quantize_model",
    model=snakemake.input.model,
    calibration=snakemake.input.calibration,
    options=snakemake.params.options,
    checkpoint=snakemake.output[0],
    gpus=gpus_of(snakemake),
)
