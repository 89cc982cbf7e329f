from pathlib import Path

from stratalaw.calibration import read_corpus, sample
from stratalaw.files import appears_whole
from stratalaw.logs import logging_to

with logging_to(snakemake.log[0]):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(snakemake.input.model)
    drawn = sample(
        read_corpus(Path(snakemake.input.corpus)),
        tokenizer.encode,
        samples=snakemake.params.samples,
        tokens=snakemake.params.tokens,
        seed=int(snakemake.wildcards.seed),
    )
    with appears_whole(Path(snakemake.output[0])) as unfinished:
        drawn.to_parquet(unfinished)
