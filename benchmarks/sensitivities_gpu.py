"""Seconds of sensitivities and of an allocation at a true shape, by stage, beside which a quantization is to be seen.

``python benchmarks/sensitivities_gpu.py OUT.json SECONDS 8B 8B/12 …``: a Qwen3 shape with random bf16 weights and, to
measure some of its layers, how many. OTHERS other checkpoints (set in the environment; 1 if it is not) are the same
dense weights, each changed by 1 %: time does not depend on what they are, and no checkpoint is packed or unpacked.
KEPT strata (1 if it is not set) of ITEMS items (300) are measured; three are judged. An item is a context of 80 to 160
tokens and four continuations of 4 to 12. Stages are:

- *measured*: gains of each group of matrices, as ``stratalaw sensitivities`` measures them; *whole passes* is the same
  of some groups spread over the layers, with all layers run for each group, and what that makes for all groups.
- *first order*: the estimates beside them.
- *knapsack*: the allocation by PuLP. *candidates*: it, six neighbours and another rule, measured as a whole. *judged*:
  four placements on as many other items of each of three strata.

OUT.json has what is known, and stays if the SECONDS are up. With a GPU all that the device does is waited for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from true_shapes import SHAPES, VOCABULARY, random_model

from stratalaw.jobs.allocation import best_measured, judge, placements_to_measure, simple_rules, wide
from stratalaw.models.shapes import Matrix
from stratalaw.planning.allocation import shrunk
from stratalaw.sensitivities.first_order import first_order_gains
from stratalaw.sensitivities.measuring import Subject, measured_gains
from stratalaw.sensitivities.swapping import is_small, parameters_of_groups

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STRATA, CHOICES = ("memorization", "application", "reasoning"), 4
ITEMS = int(os.environ.get("ITEMS", "300"))  # of each stratum
KEPT = STRATA[: int(os.environ.get("KEPT", "1"))]
OTHERS = [f"other {number}" for number in range(int(os.environ.get("OTHERS", "1")))]
TOKENS_PER_BATCH = 32_768
WHOLE = 3  # groups that are also measured with whole passes
SHARE = 0.5  # of the bytes that more bits for all take


class OutOfTime(Exception):
    """The seconds are up; what was found stays."""


class Stages:
    """What is known of a run, written as soon as it is."""

    def __init__(self, records: list[dict[str, Any]], record: dict[str, Any], out: Path, ends: float) -> None:
        self.records, self.record, self.out, self.ends = records, record, out, ends
        records.append(record)

    def note(self, name: str, value: Any) -> None:
        self.record[name] = value
        self.out.write_text(json.dumps(self.records, indent=1))
        print(json.dumps({name: value}), flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if time.monotonic() > self.ends:
            raise OutOfTime(name)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        yield
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            self.record[f"{name}, peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        self.note(f"{name}, s", round(time.perf_counter() - started, 2))


def asked_of(rng: np.random.Generator, items: int) -> pd.DataFrame:
    """Requests of the items of a stratum; see the head of this file."""
    rows = [
        ("task", document, choice == 0, context, rng.integers(1, VOCABULARY, rng.integers(4, 13)))
        for document in range(items)
        for context in [rng.integers(1, VOCABULARY, rng.integers(80, 161))]
        for choice in range(CHOICES)
    ]
    return pd.DataFrame(rows, columns=["task", "document", "is_right", "context", "continuation"])


def subjects_of(model: Any, items: int) -> tuple[Subject, Subject]:
    """What is measured on the items to choose by, and on others."""
    matrices = [
        Matrix(name.removesuffix(".weight"), *weight.shape)
        for name, weight in model.named_parameters()
        if weight.ndim == 2 and ".layers." in name
    ]
    groups = parameters_of_groups(model, matrices)
    place = DEVICE if is_small(model, len(OTHERS)) else "cpu"
    torch.manual_seed(1)
    others: dict[str, dict[str, torch.Tensor]] = {other: {} for other in OTHERS}
    for weights, names in product(others.values(), groups.values()):
        for name in names:
            weight = model.get_parameter(name).detach()
            weights[name] = (weight * (1 + 0.01 * torch.randn_like(weight))).to(place)
    rng = np.random.default_rng(0)
    return tuple(
        Subject(model, others, groups, {name: asked_of(rng, items) for name in strata}, TOKENS_PER_BATCH)
        for strata in (KEPT, STRATA)
    )


def measure(size: str, n_layers: int, stages: Stages) -> None:
    """All stages of a run."""
    with stages.stage("random weights"):
        model = random_model(size, device=DEVICE, n_layers=n_layers)
        choosing, judging = subjects_of(model, ITEMS)
    stages.note("groups", len(choosing.groups))
    stages.note("tokens of a pass", sum(batching.tokens for batching in choosing._batchings.values()))
    with stages.stage("kernels"):  # compiled once for a machine, and the model's way to run found out
        small = Subject(model, choosing.others, choosing.groups, {"s": asked_of(np.random.default_rng(1), 8)}, 1024)
        small.answered({})
        next(small.answered_by_group())
    with stages.stage("first order"):
        estimated = first_order_gains(choosing)
    with stages.stage("one whole pass"):
        before = choosing.answered({})
    with stages.stage(f"whole passes of {WHOLE} groups"):
        some = list(choosing.groups)[:: -(-len(choosing.groups) // WHOLE)]
        whole = {group: choosing.answered({group: OTHERS[0]}) for group in some}
    per_group = stages.record[f"whole passes of {WHOLE} groups, s"] / len(whole)
    n_options = len(choosing.groups) * len(OTHERS)
    stages.note("measured by whole passes, extrapolated, s", round(per_group * n_options, 1))
    with stages.stage("measured"):
        table = measured_gains(choosing)
    bytes_more = pd.Series(
        {
            (group, other): (1 - 2 * place) * sum(choosing.others[other][name].numel() for name in names) // 8
            for place, other in enumerate(OTHERS)  # the first has more bits, the second fewer
            for group, names in choosing.groups.items()
        }
    )
    gains, errors = (wide(table, bytes_more, name) for name in ("gain", "stderr"))
    differences = [
        float((found.margin - before[stratum].margin).mean()) - gains[stratum][group, OTHERS[0]]
        for group, answered in whole.items()
        for stratum, found in answered.items()
    ]
    stages.note("largest difference of gains, nats", float(np.abs(differences).max()))
    both = table.merge(estimated, on=["group", "variant", "stratum"])
    stages.note("rank correlation with first order", round(float(both.gain_x.corr(both.gain_y, method="spearman")), 2))
    spare = int(SHARE * bytes_more.clip(lower=0).sum()) if len(OTHERS) == 1 else 0
    by_weight = dict.fromkeys(KEPT, 1.0)
    with stages.stage("knapsack"):
        found = placements_to_measure(shrunk(gains, errors, bytes_more), bytes_more, spare, by_weight, {})
        rules = list(simple_rules("base", errors[KEPT[0]], bytes_more, spare).values())
    stages.note("candidates", len(rules) + len(found))
    with stages.stage("candidates"):
        rule, chosen = best_measured(choosing, rules, found, by_weight)
    with stages.stage("judged"):
        everywhere = {group: OTHERS[0] for group in choosing.groups}
        judge(judging, {"base": {}, "rule": rule, "chosen": chosen, "larger": everywhere}, "rule")


def main(out: str, seconds: str, *runs: str) -> None:
    ends, records = time.monotonic() + float(seconds), list[dict[str, Any]]()
    for run in runs:
        size, _, layers = run.partition("/")
        n_layers = int(layers or SHAPES[size][2])
        device = torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE
        about = {"size": size, "layers": n_layers, "items": ITEMS * len(KEPT), "others": len(OTHERS), "device": device}
        stages = Stages(records, about, Path(out), ends)
        try:
            measure(size, n_layers, stages)
        except OutOfTime as error:
            stages.note("the time was up before", str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
