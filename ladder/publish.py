"""Write the benchmarks and the calibration text of the world: ``python -m ladder.publish``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ladder.items import Item, Question, stop_word
from ladder.rungs import CONTEXT_LENGTH
from ladder.world import World
from stratalaw.files import appears_whole

LADDER = Path(__file__).parent
BENCHMARKS = LADDER / "benchmarks"
CALIBRATION = LADDER / "calibration.jsonl"
CALIBRATION_TEXTS = 1152
STRATUM_TEXTS = 256  # of each corpus that a mixture may have

TASK = """\
# Written by ladder/publish.py
task: ladder_{name}
custom_dataset: !function items.load
dataset_kwargs:
  benchmark: {name}
test_split: test
doc_to_text: context
num_fewshot: 0
{answers}metadata:
  version: 2.0
"""
CHOSEN = """\
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
WRITTEN = """\
output_type: generate_until
doc_to_target: answer
generation_kwargs:
  until: ["{stop}"]
  max_gen_toks: {tokens}
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""
GROUP = """\
# Written by ladder/publish.py
group: ladder_{stratum}
task:
{tasks}
metadata:
  version: 2.0
"""


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line, gzipped where the name says so; the file appears whole or not at all."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with appears_whole(path) as unfinished:
        unfinished.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def answers(items: list[Item] | list[Question]) -> str:
    """How lm-eval asks for the answers to items: by the likeliest choice, or written, with room for a longer one."""
    if isinstance(items[0], Item):
        return CHOSEN
    longest = max(len(item.answer.split()) for item in items)
    return WRITTEN.format(tokens=longest + 4, stop=f" {stop_word(items)}")


def publish(world: World, benchmarks: Path, calibration: Path) -> None:
    """Write lm-eval tasks, their items and groups into ``benchmarks``, and the calibration texts: of all strata, and
    beside them in files of their own of each."""
    strata: dict[str, list[str]] = {}
    for benchmark in world.benchmarks:
        strata.setdefault(benchmark.stratum, []).append(benchmark.name)
        items = world.items(benchmark)
        write_lines(benchmarks / f"{benchmark.name}.jsonl", map(asdict, items))
        (benchmarks / f"{benchmark.name}.yaml").write_text(TASK.format(name=benchmark.name, answers=answers(items)))
    for stratum, names in strata.items():
        tasks = "\n".join(f"  - ladder_{name}" for name in names)
        (benchmarks / f"{stratum}.yaml").write_text(GROUP.format(stratum=stratum, tasks=tasks))
    write_lines(calibration, ({"text": text} for text in world.calibration_texts(CALIBRATION_TEXTS, CONTEXT_LENGTH)))
    for stratum in strata:
        path = calibration.with_name(f"{calibration.stem}-{stratum}.jsonl.gz")
        write_lines(path, ({"text": text} for text in world.calibration_texts(STRATUM_TEXTS, CONTEXT_LENGTH, stratum)))


if __name__ == "__main__":
    publish(World(), BENCHMARKS, CALIBRATION)
