"""How much of a study must be measured? ``python benchmarks/next.py docs/studies/ladder [SEEDS]``

A published study is replayed: what ``stratalaw next`` asks for counts as measured, in batches as it gives them, against
variants drawn at random for the same cost (seconds of GPU jobs). Originals are measured in any case: a share of the
cost is of all that the study takes, with what they take counted, or of the quantized variants, beside them. Each seed
leaves out another tenth of the variants altogether. Errors are in points of adjusted accuracy, over the variants that
were not measured; coverage is that of nominal 95 % intervals for what measuring them gave.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.cost.estimate import expectation
from stratalaw.laws import read_observations
from stratalaw.laws.process import response
from stratalaw.laws.surface import Surface, cells_of, surface_rows
from stratalaw.layout import Results
from stratalaw.models.known_shapes import shapes_of_folder, shapes_of_study
from stratalaw.models.shapes import Shapes
from stratalaw.planning.belief import Belief
from stratalaw.planning.steps import Goal, next_step
from stratalaw.planning.wishes import Decision, wish_of
from stratalaw.study import Study, read_study
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME

ROOT = Path(__file__).parent.parent
SHARES = (0.05, 0.1, 0.2, 0.5)
ALL, QUANTIZED = "all", "quantized"
SEEDS = 20
QUESTIONS = 100
ASKED = 30  # of which the study is measured for the question alone
CONTEXT = 256
SURE = 0.95
AGAIN = 10  # times that the study is drawn on other items
TIE = 0.5  # points
ITEMS = 2000  # of a stratum, in what is drawn


class Replay:
    """A published study whose measurements are given out one by one."""

    def __init__(self, folder: Path, seed: int | None = None) -> None:
        name = folder.resolve().name
        self.study: Study = read_study(ROOT / "config" / f"{name}.yaml")
        table = pd.read_csv(folder / "observations.csv")
        read_observations(folder / "observations.csv")
        took = pd.read_csv(folder / "seconds.csv").set_index(["model", "variant"])
        seconds = (took.checkpoints + took.answers).to_dict()
        names = pd.MultiIndex.from_frame(table[["model", "variant"]])
        if seed is not None:
            quantized = names[table.bits < BASELINE_BITS].unique()
            gone = quantized[np.random.default_rng(seed).random(len(quantized)) < 0.1]
            table = table[~names.isin(gone)].reset_index(drop=True)
        self.observations = table
        self.rows = surface_rows(table)
        self.sizes = table.groupby("model").n_params.first().astype(float).to_dict()
        found = set(zip(table.model, table.variant, strict=True))
        self.seconds: dict[tuple[str, str], float] = {
            name: float(seconds.get(name, np.inf)) for name in self.study.variant_names()
        }
        self.cost = sum(self.seconds[name] for name in found)
        # What was left out, or never measured, cannot be asked for.
        self.absent = {name for name in self.study.variant_names() if name not in found}
        for name in self.absent:
            self.seconds[name] = 0.0

    def part(self, table: pd.DataFrame, variants: set[tuple[str, str]]) -> pd.DataFrame:
        named = pd.MultiIndex.from_frame(table[["model", "variant"]])
        return table[named.isin(list(variants))].reset_index(drop=True)

    def originals(self) -> set[tuple[str, str]]:
        return {(model, BASELINE_NAME) for model in self.sizes}

    def measured(self, goal: Goal) -> Iterator[set[tuple[str, str]]]:
        """What was measured after each step."""
        have = self.originals()
        yield set(have)
        while True:
            step = next_step(
                self.study,
                self.part(self.observations, have),
                have | self.absent,
                self.sizes,
                self.seconds,
                goal,
            )
            if not step.variants:
                return
            have |= set(step.variants)
            yield set(have)

    def belief(self, have: set[tuple[str, str]]) -> Belief:
        return Belief.of(self.study, self.part(self.observations, have), self.sizes)

    def budget(self, share: float, of: str) -> float:
        """Seconds that are a share of what all takes, or, after the originals, of what the quantized variants take."""
        before = 0.0 if of == ALL else sum(self.seconds[name] for name in self.originals())
        return before + share * (self.cost - before)

    def random(self, seconds: float, seed: int) -> set[tuple[str, str]]:
        have, left = self.originals(), seconds - sum(self.seconds[name] for name in self.originals())
        others = sorted(set(self.seconds) - have - self.absent)
        for place in np.random.default_rng(seed).permutation(len(others)):
            if self.seconds[others[place]] <= left:
                have.add(others[place])
                left -= self.seconds[others[place]]
        return have

    def errors(self, have: set[tuple[str, str]], of: str | None = None) -> dict[str, float]:
        """Of the variants that were not measured (of one model): error, coverage and half width."""
        known = self.part(self.rows, have)
        names = pd.MultiIndex.from_frame(self.rows[["model", "variant"]])
        others = self.rows[~names.isin(list(have)) & (self.rows.model == (of or self.rows.model))]
        predicted = Surface.fit(known, float(np.exp(np.log(list(self.sizes.values())).mean()))).predict(others)
        true = others.accuracy_adjusted
        inside = (predicted.low <= true) & (true <= predicted.high)
        return {
            "variants": len(have) - len(self.sizes),
            "error": 100 * float((predicted["mean"] - true).abs().mean()),
            "coverage": 100 * float(inside.mean()),
            "half width": 50 * float((predicted.high - predicted.low).mean()),
        }


def table_of(rows: list[dict[str, object]], by: list[str]) -> str:
    return str(
        pd.DataFrame(rows)
        .groupby(by, sort=False)
        .mean(numeric_only=True)
        .round(2)
        .reset_index()
        .to_markdown(index=False)
    )


def shares(folder: Path, seeds: int) -> str:
    cases = [
        (seed, share, of)
        for seed in range(seeds)
        for share in SHARES[: 4 if seed < 3 else 3]
        for of in ((ALL, QUANTIZED) if share < 0.2 else (ALL,))
    ]
    return table_of([row for case in cases for row in share_of(folder, *case)], ["share", "of", "by"])


def share_of(folder: Path, seed: int, share: float, of: str) -> list[dict[str, object]]:
    replay = Replay(folder, seed)
    seconds = replay.budget(share, of)
    *_, have = replay.measured(Goal(wish_of(None, replay.study, {}), seconds=seconds))
    by = {"next": have, "random": replay.random(seconds, seed)}
    return [{"share": share, "of": of, "by": name, **replay.errors(found)} for name, found in by.items()]


def sizes_not_run(folder: Path) -> str:
    """Each model left out, of which the original alone is known."""
    rows: list[dict[str, object]] = []
    replay = Replay(folder)
    for model in replay.sizes:
        for share in (0.1, 0.3):
            for seed in range(3):
                drawn = replay.random(replay.budget(share, ALL), seed)
                have = {name for name in drawn if name[0] != model} | {(model, BASELINE_NAME)}
                rows.append({"share of the cost": share, **replay.errors(have, model)})
    return table_of(rows, ["share of the cost"])


def questions(replay: Replay, shapes: Mapping[str, Shapes]) -> Iterator[Decision]:
    """Questions to ``stratalaw plan``: a memory, or a floor of a stratum, with weights of the strata."""
    random = np.random.default_rng(0)
    strata = list(replay.study.evaluation.strata)
    everything = replay.belief(set(replay.seconds))
    probe = Decision("", shapes, 1, {}, {}, CONTEXT)
    memory = probe.candidates(everything)[1]
    for number in range(QUESTIONS):
        weights = dict(zip(strata, random.dirichlet(np.ones(len(strata))), strict=True))
        if number % 2:
            name = str(random.choice(strata))
            own = everything.mean[(everything.cells.stratum == name).to_numpy()]
            yield Decision(
                "", shapes, None, {name: float(random.uniform(*np.quantile(own, (0.3, 0.95))))}, weights, CONTEXT
            )
        else:
            limit = int(np.exp(random.uniform(np.log(memory.min() * 1.1), np.log(memory.max()))))
            yield Decision("", shapes, limit, {}, weights, CONTEXT)


def regret(question: Decision, everything: Belief, chosen: str) -> float:
    """By how much what was chosen lies below the best of the whole table, or misses a floor."""
    names, _, before = question.candidates(everything)
    table = np.concatenate([everything.mean.reshape(-1, len(everything.strata)), before])
    weights = np.array([question.weights[name] for name in everything.strata])
    value = dict(zip(names, table @ weights, strict=True))
    missed = 0.0
    for stratum, floor in question.floors.items():
        own = dict(zip(names, table[:, everything.strata.index(stratum)], strict=True))
        missed = max(missed, floor - own[chosen] if chosen else 0.0)
    if question.memory is None:
        return missed
    return value[question.choice(everything)] - value[chosen]


def on_other_items(replay: Replay, everything: Belief) -> list[Belief]:
    """The whole study as it could come out on as many other items, of each variant by itself."""
    cells = everything.cells
    of_cells = replay.rows.set_index(["model", "variant", "stratum"]).variance
    variance = of_cells.reindex(pd.MultiIndex.from_frame(cells[["model", "variant", "stratum"]])).fillna(0).to_numpy()
    spread = np.sqrt(variance) * (1 - cells.chance.to_numpy(float))
    noise = np.random.default_rng(0).normal(size=(AGAIN, len(cells))) * spread
    return [replace(everything, mean=np.clip(everything.mean + own, 0, 1)) for own in noise]


def decisions(folder: Path) -> str:
    """The same choice as from the whole table: after what ``next`` asks for every variant, after what it asks for the
    decision itself, until it is sure or a tenth of the cost is spent, and from the whole study on other items."""
    replay = Replay(folder)
    shapes = {model.name: shapes_of_folder(ROOT / model.source) for model in replay.study.models}
    everything = replay.belief(set(replay.seconds))
    *_, general = replay.measured(Goal(wish_of(None, replay.study, {}), seconds=0.1 * replay.cost))
    of_general = replay.belief(general)
    again = on_other_items(replay, everything)
    rows: list[dict[str, object]] = []
    for number, question in enumerate(questions(replay, shapes)):
        found = [("every variant", general, of_general)]
        if number < ASKED:
            *_, asked = replay.measured(Goal(question, SURE, seconds=0.1 * replay.cost))
            found.append(("the decision", asked, replay.belief(asked)))
        found += [("everything, on other items", set(replay.seconds), belief) for belief in again]
        best = question.choice(everything)
        for by, have, belief in found:
            chosen = question.choice(belief)
            lost = 100 * regret(question, everything, chosen)
            sureness = question.sureness(belief) if len(have) < len(replay.seconds) else np.nan
            rows.append(
                {
                    "asked for": by,
                    "question": "memory" if question.memory else "floor",
                    "number": number,
                    "same choice, %": 100 * float(chosen == best),
                    "same or within 0.5 points, %": 100 * float(chosen == best or lost <= TIE),
                    "probability given, %": 100 * sureness,
                    "regret, points": lost,
                    "share of the cost, %": 100 * sum(replay.seconds[name] for name in have) / replay.cost,
                }
            )
    table = pd.DataFrame(rows).groupby(["asked for", "question"], sort=False)
    means = table.mean(numeric_only=True).drop(columns="number")
    means.insert(0, "questions", table.number.nunique())
    return str(means.round(2).reset_index().to_markdown(index=False))


def as_rough_as(replay: Replay, study: Study, sizes: Mapping[str, float], seed: int) -> pd.DataFrame:
    """Observations of another study, drawn from the process with the hyperparameters of a published one."""
    random = np.random.default_rng(seed)
    kernel = Surface.fit(replay.rows).posteriors[0].kernel
    rows = []
    for variant in study.variants().to_dict("records"):
        is_original = variant["variant"] == BASELINE_NAME
        about = {
            name: variant[name] for name in ("model", "family", "variant", "bits", "group_size", "calibration_size")
        }
        about |= {"bits": BASELINE_BITS} if is_original else {}
        for stratum, benchmarks in study.evaluation.strata.items():
            chance = float(np.mean([benchmark.chance for benchmark in benchmarks]))
            rows.append({**about, "n_params": sizes[variant["model"]], "stratum": stratum, "chance": chance})
    numbers = dict.fromkeys(("bits", "group_size", "calibration_size", "n_params"), float)
    table = pd.DataFrame(rows).replace({pd.NA: np.nan}).astype(numbers).assign(benchmark=lambda own: own.stratum)
    cells = cells_of(table, float(np.log(table.n_params).mean()))
    f = random.multivariate_normal(cells.prior_mean(), kernel.covariance(cells, cells), method="eigh")
    names = pd.MultiIndex.from_frame(table[["model", "stratum"]])
    originals = pd.Series(random.uniform(0.4, 0.8, len(names.unique())), index=names.unique())[names].to_numpy()
    adjusted = np.where(table.bits < BASELINE_BITS, response(f, originals)[0], originals)
    right = random.binomial(ITEMS, table.chance + (1 - table.chance) * adjusted)
    return table.assign(accuracy=right / ITEMS, n_items=ITEMS)


def hours(folder: Path) -> str:
    """GPU-hours of the paper's study until every variant is known to so many points, beside the whole."""
    file = ROOT / "config" / "config.yaml"
    study = read_study(file)
    expected = expectation(study, str(file), 1e8, "H100", count_requests=False).variants
    names = list(zip(expected.model, expected.variant, strict=True))
    seconds = dict(zip(names, (expected.checkpoints + expected.answers).astype(float), strict=True))
    sizes = {name: float(shape.n_params) for name, shape in shapes_of_study(study, str(file), Results()).items()}
    truth = as_rough_as(Replay(folder), study, sizes, seed=0)
    named = pd.MultiIndex.from_frame(truth[["model", "variant"]])
    rows = []
    for precision in (0.05, 0.03, 0.02):
        have: set[tuple[str, str]] = set()
        goal = Goal(wish_of(None, study, {}), precision)
        while True:
            measured = truth[named.isin(list(have))].reset_index(drop=True) if have else None
            step = next_step(study, measured, have, sizes, seconds, goal)
            if not step.variants:
                break
            have |= set(step.variants)
        true = truth.set_index(["model", "variant", "stratum"]).accuracy
        cells = step.belief.cells
        missed = np.abs(step.belief.mean - true[pd.MultiIndex.from_frame(cells[["model", "variant", "stratum"]])])
        rows.append(
            {
                "known to, points": 100 * precision,
                "variants": len(have),
                "GPU-hours": sum(seconds[name] for name in have) / 3600,
                "GPU-hours of the whole": sum(seconds.values()) / 3600,
                "mean error, points": 100 * missed[~cells.is_measured.to_numpy(bool)].mean(),
            }
        )
    return str(pd.DataFrame(rows).round(2).to_markdown(index=False))


def main(folder: Path, seeds: int) -> None:
    print(f"{shares(folder, seeds)}\n", flush=True)
    print(f"Sizes not run, their originals known:\n\n{sizes_not_run(folder)}\n", flush=True)
    print(f"{QUESTIONS} random questions to `stratalaw plan`:\n\n{decisions(folder)}\n", flush=True)
    print(f"The paper's study, as rough as this one:\n\n{hours(folder)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else SEEDS)
