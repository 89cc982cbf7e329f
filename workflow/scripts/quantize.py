from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:quantize",
    model=snakemake.input.model,
    calibration=snakemake.input.calibration,
    options=snakemake.params.options,
    checkpoint=snakemake.output[0],
)
