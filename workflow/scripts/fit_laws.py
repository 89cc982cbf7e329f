import json
from pathlib import Path

from stratalaw.files import appears_whole
from stratalaw.logs import logging_to

with logging_to(snakemake.log[0]):
    import pandas as pd

    from stratalaw.laws.log_regression import fit_all_strata

    laws = fit_all_strata(pd.read_parquet(snakemake.input[0]))
    with appears_whole(Path(snakemake.output[0])) as unfinished:
        unfinished.write_text(json.dumps([law.summary() for law in laws], indent=1) + "\n")
