from stratalaw.jobs.run import run

run(
    snakemake,
    "stratalaw.jobs.stages:draw_calibration",
    model=snakemake.input.model,
    corpora=dict(zip(snakemake.params.names, [*snakemake.input.fetched, *snakemake.input.corpora], strict=True)),
    record=snakemake.input.get("record") or None,
    requests=snakemake.input.requests,
    samples=snakemake.params.samples,
    tokens=snakemake.params.tokens,
    overlap_words=snakemake.params.overlap_words,
    parts=snakemake.params.parts,
    drawn=snakemake.output[0],
)
