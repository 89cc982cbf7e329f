"""Write the benchmarks and the calibration text of the world: ``python -m ladder.publish``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ladder.rungs import CONTEXT_LENGTH
from ladder.world import World
from stratalaw.files import appears_whole

LADDER = Path(__file__).parent
BENCHMARKS = LADDER / "benchmarks"
CALIBRATION = LADDER / "calibration.jsonl"
CALIBRATION_TEXTS = 1152

TASK = """\
# Written by ladder/publish.py
task: ladder_{name}
custom_dataset: !function items.load
dataset_kwargs:
  benchmark: {name}
test_split: test
output_type: multiple_choice
doc_to_text: context
doc_to_choice: choices
doc_to_target: label
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
GROUP = """\
# Written by ladder/publish.py
group: ladder_{stratum}
task:
{tasks}
aggregate_metric_list:
  - metric: acc
    aggregation: mean
    weight_by_size: true
metadata:
  version: 1.0
"""


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line; the file appears whole or not at all."""
    with appears_whole(path) as unfinished:
        unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows))


def publish(world: World, benchmarks: Path, calibration: Path) -> None:
    """Write lm-eval tasks, their items and groups into ``benchmarks``, and the calibration texts."""
    strata: dict[str, list[str]] = {}
    for benchmark in world.benchmarks:
        strata.setdefault(benchmark.stratum, []).append(benchmark.name)
        write_lines(benchmarks / f"{benchmark.name}.jsonl", map(asdict, world.items(benchmark)))
        (benchmarks / f"{benchmark.name}.yaml").write_text(TASK.format(name=benchmark.name))
    for stratum, names in strata.items():
        tasks = "\n".join(f"  - ladder_{name}" for name in names)
        (benchmarks / f"{stratum}.yaml").write_text(GROUP.format(stratum=stratum, tasks=tasks))
    write_lines(calibration, ({"text": text} for text in world.calibration_texts(CALIBRATION_TEXTS, CONTEXT_LENGTH)))


if __name__ == "__main__":
    publish(World(), BENCHMARKS, CALIBRATION)
