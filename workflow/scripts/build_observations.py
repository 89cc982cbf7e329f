import json
from pathlib import Path

from stratalaw.files import appears_whole
from stratalaw.logs import logging_to
from stratalaw.models import model_size
from stratalaw.observations import observe
from stratalaw.quantization import AUDIT
from stratalaw.study import read_study

with logging_to(snakemake.log[0]):
    import pandas as pd

    study = read_study(Path(snakemake.input.study))
    sizes = {Path(folder).name: model_size(Path(folder)) for folder in snakemake.input.models}
    audits = {
        (folder.parent.name, folder.name): json.loads((folder / AUDIT).read_text())
        for folder in map(Path, snakemake.input.checkpoints)
    }
    items = pd.concat(
        pd.read_parquet(path).assign(model=path.parts[-3], variant=path.parts[-2], stratum=path.stem)
        for path in map(Path, snakemake.input.scores)
    )
    table = observe(study, sizes, audits, items)
    with appears_whole(Path(snakemake.output.csv)) as unfinished:
        table.to_csv(unfinished, index=False)
    with appears_whole(Path(snakemake.output.parquet)) as unfinished:
        table.to_parquet(unfinished)
