from pathlib import Path

from stratalaw.files import appears_whole
from stratalaw.logs import logging_to
from stratalaw.study import Evaluation

with logging_to(snakemake.log[0]):
    from transformers import AutoTokenizer

    from stratalaw.evaluation import context_length
    from stratalaw.harness import record_requests

    folder = Path(snakemake.input[0])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for output in map(Path, snakemake.output):
        requests = record_requests(
            tokenizer, context_length(folder), Evaluation(**snakemake.params.evaluation), output.stem
        )
        with appears_whole(output) as unfinished:
            requests.to_parquet(unfinished)
