"""Tables of what is kept, and the page that shows them."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stratalaw.published.library import kept_shares
from stratalaw.published.summary import between_sources, kept_by_setting, losing_most, methods_beside_gptq


def made(kept: dict[str, float], method: str = "GPTQ", source: str = "s") -> pd.DataFrame:
    """Rows of four families of one model, in each stratum."""
    return pd.DataFrame(
        [
            {
                "model": f"m{i}", "family": f"f{i}", "n_params": 1e9, "source_id": source, "method": method,
                "bits": 4.0, "group_size": 128.0, "calibration": "", "stratum": stratum, "benchmark": stratum,
                "kept": value + 0.01 * i, "item_noise": 0.01, "row": i,
            }
            for i in range(4)
            for stratum, value in kept.items()
        ]
    )  # fmt: skip


KEPT = {"memorization": 0.9, "application": 0.95, "reasoning": 0.8}


def test_means_are_over_models_and_intervals_over_families():
    table = kept_by_setting(made(KEPT)).set_index("stratum")
    assert table.kept.to_dict() == pytest.approx({name: value + 0.015 for name, value in KEPT.items()})
    assert (table.low < table.kept).all() and (table.kept < table.high).all() and (table.models == 4).all()
    one = made(KEPT)
    assert kept_by_setting(one[one.family == "f0"]).low.isna().all()


def test_what_loses_most_and_by_how_much():
    table = losing_most(made(KEPT)).set_index(["bits", "stratum"]).loc[4]
    assert table.least.to_dict() == {"memorization": 0, "application": 0, "reasoning": 4}
    assert table.difference["reasoning"] == pytest.approx(0.8 - 0.925) and table.high["reasoning"] < 0


def test_methods_are_paired_and_sources_too():
    better = {name: value + 0.02 for name, value in KEPT.items()}
    table = methods_beside_gptq(pd.concat([made(KEPT), made(better, "AWQ")]))
    assert table.method.tolist() == ["AWQ"] and table.difference.tolist() == pytest.approx([0.02])
    apart = between_sources(pd.concat([made(KEPT), made(better, source="t")]))
    assert np.allclose(apart.error[apart.bits == 4], 2)


def test_the_page_shows_what_the_code_gives(library):
    """``python benchmarks/published.py tables`` writes it anew."""
    spec = importlib.util.spec_from_file_location("published_benchmark", Path("benchmarks/published.py"))
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    page = benchmark.PAGE.read_text()
    assert set(benchmark.blocks()) == {name for name in benchmark.NAMES.findall(page) if name != "end"}
    assert benchmark.with_blocks(page) == page
    assert len(kept_shares(library)) > 5000
