"""The library is what its sources say, and a user's table is added to it or refused."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.published.library import LibraryError, benchmarks, by_stratum, kept_shares, read_library, sources

OWN = pd.DataFrame(
    [
        {"model": "me/m-1B", "family": "Mine", "n_params": 1e9, "method": "GPTQ", "bits": bits, "group_size": 128,
         "benchmark": "mmlu", "accuracy": accuracy, "chance": 0.25, "n_items": 14042, "source_id": "mine"}
        for bits, accuracy in ((16, 0.65), (4, 0.61))
    ]
)  # fmt: skip


def test_every_source_and_benchmark_is_described(library):
    assert len(library) == 7424
    described = sources().set_index("source_id").rows.astype(int)
    assert library.source_id.value_counts().sort_index().to_dict() == described.sort_index().to_dict()
    assert set(library.benchmark) == set(benchmarks().benchmark) and benchmarks().reason.notna().all()


def test_a_kept_share_is_over_the_original_of_the_same_source(library):
    rows = kept_shares(library)
    row = rows[(rows.model == "Qwen/Qwen3-8B") & (rows.method == "GPTQ") & (rows.benchmark == "mmlu")].iloc[0]
    printed = library.iloc[row.row - 1]
    assert (printed.model, printed.accuracy, printed.source_id) == (row.model, row.accuracy, row.source_id)
    originals = library[(library.bits == 16) & (library.model == row.model) & (library.source_id == row.source_id)]
    [original] = originals.accuracy[(originals.benchmark == "mmlu") & (originals.shots == row.shots)].unique()
    assert row.kept == pytest.approx((row.accuracy - 0.25) / (original - 0.25))
    assert "inc-recipes" in set(kept_shares(library, selected_too=True).source_id) - set(rows.source_id)


def test_a_stratum_is_the_mean_over_its_benchmarks(library):
    rows = kept_shares(library)
    shares = by_stratum(rows)
    one = shares.iloc[shares.benchmarks.argmax()]
    assert one.kept == pytest.approx(rows[rows.row.isin(one.rows)].kept.mean())


def test_an_own_table_is_added(tmp_path, library):
    OWN.to_csv(tmp_path / "own.csv", index=False)
    both = read_library(tmp_path / "own.csv")
    assert len(both) == len(library) + 2
    [share] = kept_shares(both).kept[lambda kept: kept_shares(both).model == "me/m-1B"]
    assert share == pytest.approx(0.36 / 0.4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 61}, "row 1, column accuracy: is not a number from 0 to 1"),
        ({"benchmark": "riddles"}, "column benchmark: is not one of arc_challenge"),
        ({"source_id": "gptq-paper"}, "column source_id: is a source of the library"),
        ({"model": "Qwen/Qwen3-8B", "family": "Qwen3"}, "column n_params: is another one in the library"),
        ({"bits": 4}, "row 2, column benchmark: was given above"),
        ({"family": None}, "row 1, column family: is blank"),
        ({"family": ["Mine", "Other"]}, "row 1, column family: differs between rows of the model"),
        ({"n_params": [1e9, 2e9]}, "row 1, column n_params: differs between rows of the model"),
        ({"chance": 0.0}, "row 1, column chance: is another one in the library"),
        ({"group_size": 0}, "column group_size: is not more than 0, or -1"),
        ({"chance": np.nan}, "column chance: is not a number"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, change, message):
    OWN.assign(**change).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(LibraryError, match=r"own\.csv: .*" + message):
        read_library(tmp_path / "own.csv")


def test_a_variant_without_its_original_is_refused(tmp_path):
    OWN.iloc[1:].to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(LibraryError, match="row 1, column bits: has no row of its original"):
        read_library(tmp_path / "own.csv")
    OWN.drop(columns="chance").to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(LibraryError, match="the column chance is missing"):
        read_library(tmp_path / "own.csv")
