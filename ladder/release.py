"""Choose the published model of each rung among its training runs: ``python -m ladder.release``.

The rule, fixed before any run: the highest accuracy on validation items (never a benchmark's), averaged over the
benchmarks of a stratum and then over the strata. How much the runs differ is written down for all of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from ladder.publish import LADDER
from ladder.rungs import RUNGS
from ladder.train import RUNS
from ladder.world import STRATA
from stratalaw.files import sha256

MODELS = LADDER / "models"
TABLES = LADDER.parent / "docs" / "ladder"
CHECKSUMS = "SHA256SUMS"
LEFT_OUT = {"log.txt"}


def validation_table(runs: Path) -> pd.DataFrame:
    """Validation accuracy of every finished run: one row for each rung and seed, one column for each stratum."""
    rows = []
    for path in sorted(runs.glob("*/training.json")):
        record = json.loads(path.read_text())
        accuracy = {
            stratum: sum(record["validation"][name]["all"] for name in names) / len(names)
            for stratum, names in STRATA.items()
        }
        rung = path.parent.name.rsplit("-s", 1)[0]
        rows.append({"rung": rung, "seed": record["seed"], **accuracy, "folder": path.parent})
    return pd.DataFrame(rows)


def release(runs: Path, models: Path, tables: Path) -> None:
    """Put the best run of each rung into ``models``, and write the table of all runs and the checksums.

    Raises FileNotFoundError when a rung has no finished run.
    """
    table = validation_table(runs)
    lacking = [rung for rung in RUNGS if table.empty or rung not in set(table.rung)]
    if lacking:
        raise FileNotFoundError(
            f"{runs}: no finished run of {', '.join(lacking)}; train it: python -m ladder.train_all"
        )
    best = table.loc[table[list(STRATA)].mean(axis=1).groupby(table.rung).idxmax()]
    for row in best.itertuples():
        target = models / row.rung
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(row.folder, target, ignore=lambda _, names: LEFT_OUT & set(names))
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
