from stratalaw.jobs import run

run(
    snakemake,
    "stratalaw.stages:draw_calibration",
    model=snakemake.input.model,
    corpus=snakemake.input.corpus,
    samples=snakemake.params.samples,
    tokens=snakemake.params.tokens,
    seed=int(snakemake.wildcards.seed),
    drawn=snakemake.output[0],
)
