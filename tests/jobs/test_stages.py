"""Stages read each sealed table once, for its rows and its digest."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from stratalaw.jobs.stages import measure_damage
from stratalaw.seals import Seal, seal_of, write_table


@pytest.fixture
def reads(monkeypatch) -> Counter[str]:
    """How often each file was read, by name."""
    counted, read = Counter(), Path.read_bytes

    def read_and_count(path: Path) -> bytes:
        counted[path.name] += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_and_count)
    return counted


def test_a_damage_table_is_made_from_one_read_of_the_items_and_says_which(tmp_path, reads):
    scores = pd.DataFrame({"stratum": "reasoning", "task": "chains", "document": range(40), "score": [0.0, 1.0] * 20})
    items = pd.concat([scores.assign(model="m", variant=name) for name in ("bf16", "w4-g128-c8-s0")])
    study = tmp_path / "ladder"
    digest = write_table(items.reset_index(drop=True), study / "items.parquet", Seal("items", {"study": "ladder"}, {}))
    reads.clear()
    measure_damage(
        [str(tmp_path / "m")],
        *(str(study / name) for name in ("items.parquet", "damage.csv", "damage.parquet")),
        [str(tmp_path / "damage.rst")],
    )
    assert reads["items.parquet"] == 1
    assert seal_of(study / "damage.parquet", "damage").made_from == {"items": digest}
