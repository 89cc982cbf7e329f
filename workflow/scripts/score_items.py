import json
from pathlib import Path

from stratalaw.files import appears_whole
from stratalaw.logs import logging_to
from stratalaw.study import Evaluation

with logging_to(snakemake.log[0]):
    import pandas as pd

    from stratalaw.harness import item_scores

    evaluation = Evaluation(**snakemake.params.evaluation)
    for requests, answers, table, summary in zip(
        snakemake.input.requests,
        snakemake.input.answers,
        snakemake.output.scores,
        snakemake.output.summary,
        strict=True,
    ):
        stratum = Path(table).stem
        scores = item_scores(pd.read_parquet(requests), pd.read_parquet(answers), evaluation, stratum)
        with appears_whole(Path(table)) as unfinished:
            scores.to_parquet(unfinished)
        with appears_whole(Path(summary)) as unfinished:
            unfinished.write_text(
                json.dumps(scores.groupby("task", sort=False).score.mean().to_dict(), indent=1) + "\n"
            )
