from pathlib import Path

from stratalaw.files import appears_whole
from stratalaw.logs import logging_to

with logging_to(snakemake.log[0]):
    import pandas as pd
    import torch

    from stratalaw.evaluation import answer, load_dense

    torch.set_num_threads(snakemake.threads)
    model = load_dense(Path(snakemake.input.weights), "cuda" if torch.cuda.is_available() else "cpu")
    for requests, output in zip(snakemake.input.requests, snakemake.output, strict=True):
        answers = answer(model, pd.read_parquet(requests), snakemake.params.tokens_a_batch)
        with appears_whole(Path(output)) as unfinished:
            answers.to_parquet(unfinished)
