"""Choose the published model of each rung among its training runs: ``python -m ladder.release``.

Validation items decide (never a benchmark's), and how much the runs differ is written down for all of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
from transformers import Qwen3ForCausalLM

from ladder.channels import spread_channels
from ladder.publish import LADDER
from ladder.rungs import CONTEXT_LENGTH, RUNGS
from ladder.train import RUNS
from ladder.vocabulary import Vocabulary, write_tokenizer
from ladder.world import STRATA
from stratalaw.files import sha256

MODELS = LADDER / "models"
TABLES = LADDER.parent / "docs" / "ladder"
CHECKSUMS = "SHA256SUMS"
CHANNEL_SPREAD = 0.6  # octaves; chosen on validation items, so that three bits hurt and four hardly do


def validation_table(runs: Path) -> pd.DataFrame:
    """Validation accuracy of every finished run: one row for each rung and seed, one column for each stratum."""
    rows = []
    for path in sorted(runs.glob("*/training.json")):
        record = json.loads(path.read_text())
        rung = path.parent.name.rsplit("-s", 1)[0]
        accuracy = {
            stratum: sum(record["validation"][name]["all"] for name in names) / len(names)
            for stratum, names in STRATA.items()
        }
        rows.append({"rung": rung, "seed": record["seed"], **accuracy, "folder": path.parent})
    return pd.DataFrame(rows)


def release(runs: Path, models: Path, tables: Path) -> None:
    """Put the best run of each rung (by the mean over strata) into ``models``, channels spread, and write checksums.

    Raises FileNotFoundError when a rung has no finished run.
    """
    table = validation_table(runs)
    lacking = [rung for rung in RUNGS if table.empty or rung not in set(table.rung)]
    if lacking:
        raise FileNotFoundError(f"{runs}: no finished run of {', '.join(lacking)}; train it: make ladder-models")
    best = table.loc[table[list(STRATA)].mean(axis=1).groupby(table.rung).idxmax()]
    for row in best.itertuples():
        target = models / row.rung
        target.mkdir(parents=True, exist_ok=True)
        for name in ("training.json", "loss.csv"):
            shutil.copy(row.folder / name, target / name)
        model = Qwen3ForCausalLM.from_pretrained(row.folder, dtype="bfloat16")
        spread_channels(model, CHANNEL_SPREAD, seed=list(RUNGS).index(row.rung))
        model.save_pretrained(target)
        write_tokenizer(Vocabulary(), target, CONTEXT_LENGTH)
    table["published"] = table.index.isin(best.index)
    tables.mkdir(parents=True, exist_ok=True)
    table.drop(columns="folder").round(4).to_csv(tables / "seeds.csv", index=False)
    write_checksums(models)


def write_checksums(models: Path) -> None:
    """Write SHA-256 sums of the weights and of what is needed to load them; ``sha256sum -c SHA256SUMS`` checks them."""
    files = sorted(path for path in models.glob("*/*") if path.suffix in (".json", ".safetensors"))
    lines = [f"{sha256(path)}  {path.relative_to(models)}\n" for path in files]
    (models / CHECKSUMS).write_text("".join(lines))


if __name__ == "__main__":
    release(RUNS, MODELS, TABLES)
