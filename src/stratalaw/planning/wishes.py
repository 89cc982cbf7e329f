"""What can be asked of ``stratalaw next``, in words, as numbers that the whole study would give.

reasoning of w3               accuracies: strata and variants, either may be left out; ``q7/w3-g128`` is narrower
plan --memory 8GB             which variant ``stratalaw plan`` chooses, with its options for memory, floors, weights
exponent delta of reasoning   an exponent of the damage (c, gamma, delta), averaged over models
claim group                   the margins of one of the paper's claims
"""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentError, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.errors import StratalawError
from stratalaw.laws.analysis import with_utilization
from stratalaw.laws.claims import APPLICATION, CLAIMS, REASONING, NotTestable
from stratalaw.laws.exponents import DAMAGE, OF_MODELS, Panel, exponents_of_models
from stratalaw.laws.table import GENERAL, UTILIZATION
from stratalaw.laws.verdicts import estimate_of
from stratalaw.models.shapes import Shapes
from stratalaw.planning.belief import Array, Belief
from stratalaw.planning.sequence import Targets
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME, Quantization
from stratalaw.units import parse_bytes

DRAWS = 200  # of accuracies as the whole study could give them
SIGNIFICANT = 3.0  # standard errors of a slope over draws, of which there are hundreds
POINTS, UNITS, PROBABILITY = "points", "units of what is asked", "probability"
PATTERN = re.compile(r"(?:(?P<model>[\w.-]+)/)?(?P<variant>w\d+(?:-[gcs]-?\d+)*)")


class WishError(StratalawError):
    """What is asked is not understood, or the study cannot tell it; the message is one line that says what can be."""


class Wish(Protocol):
    """Something to know."""

    @property
    def text(self) -> str:
        """As it was asked."""

    @property
    def unit(self) -> str:
        """Of a precision: points of accuracy, units of the number, or, of a decision, the probability that the whole
        study would take the same one."""

    def wanted(self, cells: pd.DataFrame) -> NDArray[np.bool_]:
        """Which cells it is about."""

    def targets(self, belief: Belief) -> Targets:
        """The numbers, and how they hang together with what can be measured."""

    def models(self, belief: Belief) -> list[str]:
        """The models that it is about."""

    def sureness(self, belief: Belief) -> float | None:
        """Of a decision, the probability that the whole study would take the same one."""

    def answer(self, belief: Belief) -> str:
        """What is believed of it now, as one line; empty where there is more than one number."""


@dataclass(frozen=True)
class Accuracies:
    """The accuracies of variants in strata."""

    text: str
    strata: tuple[str, ...]
    variants: str
    unit: str = POINTS

    def wanted(self, cells: pd.DataFrame) -> NDArray[np.bool_]:
        wanted = cells.stratum.isin(self.strata)
        if self.variants:
            named = (cells.model + "/" + cells.variant).str.fullmatch(self.variants)
            wanted &= named | cells.model.str.fullmatch(self.variants)
        return wanted.to_numpy(bool)

    def places(self, belief: Belief) -> NDArray[np.intp]:
        return np.flatnonzero(self.wanted(belief.cells))

    def targets(self, belief: Belief) -> Targets:
        places = self.places(belief)
        if not len(places):
            raise WishError(f"--for {self.text!r}: the study has no such variant")
        variance = np.diag(belief.covariance)[places]
        return Targets(belief.covariance[places], variance, belief.noise[places], np.ones(len(places)))

    def models(self, belief: Belief) -> list[str]:
        return list(dict.fromkeys(belief.cells.model.iloc[self.places(belief)]))

    def sureness(self, belief: Belief) -> float | None:
        return None

    def answer(self, belief: Belief) -> str:
        return ""


@dataclass(frozen=True)
class Decision:
    """Which variant ``stratalaw plan`` takes: the best within a memory, or the smallest that reaches floors."""

    text: str
    shapes: Mapping[str, Shapes]
    memory: int | None
    floors: Mapping[str, float]
    weights: Mapping[str, float]
    context: int
    unit: str = PROBABILITY

    def wanted(self, cells: pd.DataFrame) -> NDArray[np.bool_]:
        """Those that fit in the memory."""
        if self.memory is None:
            return np.ones(len(cells), bool)
        names = cells[["model", "variant"]].drop_duplicates()
        fitting = [
            (model, variant)
            for model, variant in names.itertuples(index=False, name=None)
            if self.shapes[model].memory_bytes(Quantization.from_name(variant), self.context) <= self.memory
        ]
        found: NDArray[np.bool_] = pd.MultiIndex.from_frame(cells[["model", "variant"]]).isin(fitting)
        return found

    def candidates(self, belief: Belief) -> tuple[list[str], Array, Array]:
        """Names, memory, and the accuracies of originals, shape (originals, strata); these come last."""
        names, memory, before = [], [], []
        for row in belief.variants.itertuples():
            names.append(f"{row.model}/{row.variant}")
            quantization = Quantization.from_name(str(row.variant))
            memory.append(self.shapes[str(row.model)].memory_bytes(quantization, self.context))
        for model, accuracies in belief.originals[belief.strata].dropna().iterrows():
            names.append(f"{model}/{BASELINE_NAME}")
            memory.append(self.shapes[str(model)].memory_bytes(None, self.context))
            before.append(accuracies.to_numpy(float))
        return names, np.array(memory, float), np.array(before).reshape(-1, len(belief.strata))

    def _choices(self, belief: Belief, accuracies: Array) -> tuple[list[str], NDArray[np.intp], Array]:
        """Names, the place of what is chosen in each draw (-1 where nothing will do), and values (draws, variants)."""
        names, memory, before = self.candidates(belief)
        strata = belief.strata
        made = accuracies.reshape(len(accuracies), -1, len(strata))
        table = np.concatenate([made, np.broadcast_to(before, (len(made), *before.shape))], axis=1)
        weights = np.array([self.weights.get(name, 1.0) for name in strata])
        values = table @ weights / weights.sum()
        floors = np.array([self.floors.get(name, 0.0) for name in strata])
        usable = np.asarray((table >= floors).all(2))
        if self.memory is None:
            # The smallest; of equals the better.
            rank = -memory + values
        else:
            usable &= memory <= self.memory
            rank = values - 1e-12 * memory
        rank = np.where(usable, rank, -np.inf)
        chosen = np.where(usable.any(1), rank.argmax(1), -1)
        return names, chosen, values

    def targets(self, belief: Belief) -> Targets:
        _, chosen, _ = self._choices(belief, belief.draws(DRAWS)[0])
        now = int(self._choices(belief, belief.mean[None])[1][0])
        strata, cells = len(belief.strata), len(belief.cells)
        weights = np.array([self.weights.get(name, 1.0) for name in belief.strata])
        weights = weights / weights.sum()
        rows, counts = [], []
        for place in np.unique(np.append(chosen, now)):
            row = np.zeros(cells)
            for number, sign in ((int(place), 1.0), (now, -1.0)):
                if 0 <= number < cells // strata:
                    row[number * strata : (number + 1) * strata] += sign * weights
            if row.any():
                rows.append(row)
                counts.append(float((chosen == place).mean()))
        if self.floors:
            # Whether a floor is reached is asked of each variant that may be chosen, by itself.
            for place in np.unique(np.append(chosen, now)):
                for number, name in enumerate(belief.strata):
                    if name in self.floors and 0 <= place < cells // strata:
                        row = np.zeros(cells)
                        row[int(place) * strata + number] = 1.0
                        rows.append(row)
                        counts.append(float((chosen == place).mean()))
        if not rows:  # all contenders are originals
            rows, counts = [np.zeros(cells)], [0.0]
        by = np.array(rows)
        covariance = by @ belief.covariance
        variance = np.einsum("tc,tc->t", covariance, by)
        return Targets(covariance, variance, np.zeros(len(by)), np.maximum(counts, 1 / DRAWS))

    def models(self, belief: Belief) -> list[str]:
        return list(dict.fromkeys(belief.cells.model))

    def sureness(self, belief: Belief) -> float:
        now = int(self._choices(belief, belief.mean[None])[1][0])
        return float((self._choices(belief, belief.draws(DRAWS)[0])[1] == now).mean())

    def choice(self, belief: Belief) -> str:
        """What is chosen, ``MODEL/VARIANT``; empty where nothing will do."""
        names, chosen, _ = self._choices(belief, belief.mean[None])
        return names[int(chosen[0])] if chosen[0] >= 0 else ""

    def answer(self, belief: Belief) -> str:
        choice = self.choice(belief)
        what = f"the choice is {choice}" if choice else "no variant will do"
        return f"{what}; the whole study would choose the same with a probability of {self.sureness(belief):.0%}"


@dataclass(frozen=True)
class Numbers:
    """Numbers that a panel of models gives, such as an exponent or a claim's margins."""

    text: str
    of_panel: Callable[[Panel], Array]
    held_out: frozenset[str]
    unit: str = UNITS

    def wanted(self, cells: pd.DataFrame) -> NDArray[np.bool_]:
        return ~cells.model.isin(self.held_out).to_numpy(bool)

    def values(self, belief: Belief, accuracies: Array) -> Array:
        """The numbers in each draw, shape (draws, numbers)."""
        try:
            return self.of_panel(panel_of(belief, accuracies, self.held_out))
        except NotTestable as error:
            raise WishError(f"--for {self.text!r}: the study cannot tell it: {error}") from None

    def targets(self, belief: Belief) -> Targets:
        draws, along = belief.draws(DRAWS)
        values = self.values(belief, draws)
        told = np.isfinite(values).all(1)
        if told.sum() < DRAWS / 2:
            raise WishError(f"--for {self.text!r}: the study cannot tell it; measure more of it first")
        # To first order; slopes that so many draws give by chance alone are none.
        centred = values[told] - values[told].mean(0)
        slopes = centred.T @ along[told] / told.sum()
        slopes[np.abs(slopes) < SIGNIFICANT * centred.std(0)[:, None] / np.sqrt(told.sum())] = 0.0
        variance = (slopes**2).sum(1)
        weight = 1 / np.maximum(variance, 1e-12)
        return Targets(slopes @ belief.axes.T, variance, np.zeros(len(variance)), weight)

    def models(self, belief: Belief) -> list[str]:
        return [name for name in dict.fromkeys(belief.cells.model) if name not in self.held_out]

    def sureness(self, belief: Belief) -> float | None:
        return None

    def answer(self, belief: Belief) -> str:
        found = self.values(belief, belief.mean[None])[0]
        return "expected: " + ", ".join(f"{value:.3g}" for value in found)


def wish_of(text: str | None, study: Study, shapes: Mapping[str, Shapes]) -> Wish:
    """What a text asks for; every accuracy of the study where there is none.

    Raises:
        WishError: it is not understood, or names what the study does not have.
    """
    strata = tuple(study.evaluation.strata)
    if text is None:
        return Accuracies("every variant", strata, "")
    words = text.split()
    held_out = frozenset(model.name for model in study.models if model.held_out)
    if words[:1] == ["plan"]:
        return _decision(text, shapes, strata)
    if words[:1] == ["exponent"]:
        return _exponent(text, words, strata, held_out)
    if words[:1] == ["claim"]:
        claims = {claim.name: claim for claim in CLAIMS}
        if len(words) != 2 or words[1] not in claims:
            raise WishError(f"--for {text!r}: the claims are {', '.join(claims)}")
        claim = claims[words[1]]

        def margins(panel: Panel) -> Array:
            return np.column_stack(
                [
                    [estimate_of(margin, panel.models, draw).value for draw in range(panel.draws)]
                    for margin in claim.margins(panel)
                ]
            )

        return Numbers(text, margins, held_out)
    return _accuracies(text, study, strata)


def _accuracies(text: str, study: Study, strata: tuple[str, ...]) -> Accuracies:
    first, _, second = text.partition(" of ")
    names = [name.strip() for name in first.split(",")]
    asked = tuple(name for name in names if name in strata)
    if asked and len(asked) < len(names):
        raise WishError(f"--for {text!r}: the strata are {', '.join(strata)}")
    if second and not asked:
        raise WishError(f"--for {text!r}: the strata are {', '.join(strata)}")
    models = [model.name for model in study.models]
    patterns = []
    for part in (second if asked else text).split(","):
        if not (part := part.strip()):
            continue
        found = PATTERN.fullmatch(part)
        if part in models:
            patterns.append(re.escape(part))
        elif found and (found["model"] is None or found["model"] in models):
            model = "[^/]+" if found["model"] is None else re.escape(found["model"])
            # w3-c32 stands for every group size.
            settings = "".join(f".*{re.escape(setting)}(?!\\d)" for setting in re.findall(r"-[gcs]-?\d+", part))
            patterns.append(f"{model}/{found['variant'].split('-')[0]}(?!\\d){settings}.*")
        else:
            raise WishError(
                f"--for {text!r}: {part!r} is neither one of the strata ({', '.join(strata)}) and models "
                f"({', '.join(models)}) nor variants such as w3, w3-g128 or {models[0]}/w3; "
                'beside them there are "plan …", "exponent …" and "claim …"'
            )
    return Accuracies(text, asked or strata, "|".join(patterns))


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentError(None, message)


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no memory such as 8GB") from None


def _decision(text: str, shapes: Mapping[str, Shapes], strata: tuple[str, ...]) -> Decision:
    parser = _Parser(add_help=False, exit_on_error=False)
    parser.add_argument("--memory", type=_bytes)
    parser.add_argument("--context", type=int, default=4096)
    for name in ("--floor", "--weight"):
        parser.add_argument(name, action="append", default=[])
    try:
        asked = parser.parse_args(shlex.split(text)[1:])
        floors, weights = (
            {name: float(value) for name, _, value in (pair.partition("=") for pair in pairs)}
            for pairs in (asked.floor, asked.weight)
        )
    except (ArgumentError, ValueError) as error:
        raise WishError(f"--for {text!r}: {' '.join(str(error).split())}") from None
    if unknown := [name for name in (*floors, *weights) if name not in strata]:
        raise WishError(f"--for {text!r}: {unknown[0]!r} is not one of {', '.join(strata)}")
    if asked.memory is None and not floors:
        raise WishError(f"--for {text!r}: a plan has a --memory, such as 8GB, or a --floor, such as {strata[0]}=0.6")
    return Decision(text, shapes, asked.memory, floors, weights, asked.context)


def _exponent(text: str, words: list[str], strata: tuple[str, ...], held_out: frozenset[str]) -> Numbers:
    names = OF_MODELS[DAMAGE]
    stratum = words[3] if len(words) == 4 and words[2] == "of" else GENERAL if len(strata) > 1 else strata[0]
    if len(words) not in (2, 4) or words[1] not in names or stratum not in (*strata, GENERAL):
        raise WishError(
            f"--for {text!r}: an exponent is one of {', '.join(names)}, and may be of a stratum "
            f"({', '.join(strata)}): exponent {names[0]} of {strata[0]}"
        )

    def exponent(panel: Panel) -> Array:
        found = exponents_of_models(panel, stratum, DAMAGE)[words[1]]
        told = np.isfinite(found).any(0)
        if not told.any():
            raise NotTestable(f"no model tells {words[1]} in {stratum}")
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nansum(found, axis=1) / np.isfinite(found).sum(1))[:, None]

    return Numbers(text, exponent, held_out)


def panel_of(belief: Belief, accuracies: Array, held_out: frozenset[str] = frozenset()) -> Panel:
    """The models with draws of their accuracies, shape (draws, cells), as if all of it had been measured."""
    about = ["model", "family", "n_params", "variant", "bits", "group_size", "calibration_size", "stratum", "chance"]
    cells = belief.cells[about].assign(accuracy=accuracies.mean(0))
    known = belief.originals.melt(ignore_index=False, value_name="accuracy").dropna().reset_index()
    first = belief.cells.drop_duplicates(["model", "stratum"])[["model", "family", "n_params", "stratum", "chance"]]
    before = known.merge(first, on=["model", "stratum"]).assign(variant=BASELINE_NAME, bits=16.0)
    before = before.assign(group_size=np.nan, calibration_size=np.nan)
    table = pd.concat([cells, before], ignore_index=True)
    table = table.assign(benchmark=table.stratum, held_out=table.model.isin(held_out))
    observed = Panel.observed(with_utilization(table))
    everything = np.concatenate([accuracies, np.broadcast_to(before.accuracy, (len(accuracies), len(before)))], axis=1)
    chance = table.chance.to_numpy(float)
    adjusted = (everything - chance) / (1 - chance)
    of_stratum = {}
    for name in dict.fromkeys(table.stratum):
        chosen = (table.stratum == name).to_numpy()
        named = pd.MultiIndex.from_frame(table.loc[chosen, ["model", "variant"]])
        of_stratum[str(name)] = pd.DataFrame(adjusted[:, chosen].T, index=named)
    drawn = {}
    for name, rows in observed.tables.items():
        members = {GENERAL: list(of_stratum), UTILIZATION: [APPLICATION, REASONING]}.get(name, [name])
        places = pd.MultiIndex.from_frame(rows[["model", "variant"]])
        drawn[name] = np.mean([of_stratum[member].reindex(places).to_numpy().T for member in members], axis=0)
    return Panel(observed.tables, drawn)
