from pathlib import Path

from stratalaw.logs import logging_to
from stratalaw.quantization import quantize
from stratalaw.study import Gptq
from stratalaw.variants import Quantization

with logging_to(snakemake.log[0]):
    import pandas as pd
    import torch

    checkpoint = Path(snakemake.output[0])
    quantization = Quantization.from_name(checkpoint.name)
    quantize(
        Path(snakemake.input.model),
        checkpoint,
        quantization,
        pd.read_parquet(snakemake.input.calibration).tokens[: quantization.calibration_size].tolist(),
        Gptq(**snakemake.params.options),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
