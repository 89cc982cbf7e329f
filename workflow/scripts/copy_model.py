from pathlib import Path

from stratalaw.logs import logging_to
from stratalaw.models import copy_model

with logging_to(snakemake.log[0]):
    copy_model(Path(snakemake.input[0]), Path(snakemake.output[0]))
