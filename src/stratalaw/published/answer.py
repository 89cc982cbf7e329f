"""Which quantization of a model, in a memory, keeps what is needed: answered by published numbers, without a study.

The variants are those of GPTQ whose groups divide the matrices. Kept shares are expected by the law of published
numbers, for a source of its own: whoever quantizes and asks next differs from all sources so far, as these differ from
each other. A model of the library is expected from its own rows as well.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.errors import StratalawError
from stratalaw.models.shapes import Shapes
from stratalaw.published.law import LEVEL, Law
from stratalaw.published.library import PER_CHANNEL, STRATA, by_stratum, strata_of_benchmarks
from stratalaw.published.terms import covariates, share_kept
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME, Quantization
from stratalaw.units import readable_count

BITS = (8, 4, 3)
GROUP_SIZES = (32, 64, 128, PER_CHANNEL)
CALIBRATION = 128
METHOD = "GPTQ"
# What stands for a stratum: the benchmarks that most sources have.
REFERENCES = {
    "memorization": ("mmlu",),
    "application": ("hellaswag", "arc_easy", "piqa"),
    "reasoning": ("arc_challenge", "gsm8k"),
}
CHANCE = {"mmlu": 0.25, "hellaswag": 0.25, "arc_easy": 0.25, "piqa": 0.5, "arc_challenge": 0.25, "gsm8k": 0.0}
# Families of the library by how their models are called; a later generation is a family of its own.
FAMILIES = {
    r"Qwen/Qwen3-.*": "Qwen3",
    r"Qwen/Qwen2\.5-.*": "Qwen2.5",
    r"meta-llama/(Meta-)?Llama-3.*": "Llama-3",
    r"meta-llama/Llama-2-.*": "Llama-2",
    r"mistralai/(Mistral-7B|Mixtral)-.*": "Mistral",
    r"google/gemma-[27]b.*": "Gemma",
}
SAME_MODEL = {"meta-llama/Meta-Llama-3.1-": "meta-llama/Llama-3.1-"}
NEW = "(in no table)"
SIZE_IN_NAME = re.compile(r"(?<=-)\d+(\.\d+)?[BbMm](?=-|$)")
NEAREST = 3
MOST_NAMED = 3  # models that are called much as one that is unknown
ONE_POINT = 0.01  # closer than that, the smaller one is chosen
ITEMS, FLIPPED = 1000, 0.1  # a measurement as a study makes it, if a tenth of the answers turns right or wrong
DRAWS = 2000
BEYOND = 3  # times the smallest or the largest published model


class AnswerError(StratalawError):
    """A question that cannot be answered; the message says why in one line."""


@dataclass(frozen=True)
class Subject:
    """A model to choose a quantization of.

    ``name``: its repository or folder; ``repository``: its repository, if it is known.
    """

    name: str
    shapes: Shapes
    repository: str = ""

    @property
    def in_library(self) -> str:
        """Its name in the library, if it is there."""
        name = self.repository or self.name
        for start, other in SAME_MODEL.items():
            if name.startswith(start):
                return other + name.removeprefix(start)
        return name

    def family_in(self, rows: pd.DataFrame) -> str:
        """Its family: as the library has it, or else by its name."""
        known = rows.family[rows.model == self.in_library]
        if len(known):
            return str(known.iloc[0])
        return next((family for name, family in FAMILIES.items() if re.fullmatch(name, self.in_library)), NEW)


@dataclass(frozen=True)
class Question:
    """What is asked.

    ``memory``: bytes of weights and cache; ``context``: tokens in the cache; ``keep``: strata that matter, each once;
    ``baselines``: accuracies of the original by benchmark.
    """

    memory: int
    context: int
    keep: tuple[str, ...] = STRATA
    baselines: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Answer:
    """The options, the best first.

    ``family``: of the subject, ``NEW`` if it is unknown; ``is_known``: whether the library has the subject itself.

    ``options``: model, variant, bits, group_size, memory (with a cache of 16 bits), memory_8 (of 8 bits), fits ("yes",
    "with a cache of 8 bits" or "no"), and of each stratum kept, low, high; ``accuracies``: variant, benchmark,
    accuracy, low, high, for the baselines; ``relatives``: what would be chosen of each model of the same series, with
    expected, the mean adjusted accuracy over what is kept, where one source has the originals of all;
    ``rests_on``: stratum, bits, rows, models, sources, nearest, row numbers, and measured_width, of the interval
    that a measurement of the stratum would leave; ``chosen``: place in options, or None.
    """

    subject: Subject
    question: Question
    family: str
    is_known: bool
    options: pd.DataFrame
    accuracies: pd.DataFrame
    relatives: pd.DataFrame
    rests_on: pd.DataFrame
    chosen: int | None

    def table(self) -> pd.DataFrame:
        """One row for each option and stratum: model, variant, bits, group_size, memory, memory_8, fits, chosen,
        stratum, kept, low, high, rows (numbers of the nearest measurements in the library)."""
        about = ["model", "variant", "bits", "group_size", "memory", "memory_8", "fits"]
        options = self.options.assign(chosen=self.options.index == self.chosen)
        names = {kind: f"{kind}_" for kind in ("kept", "low", "high")}
        parts = [
            options[[*about, "chosen"]].assign(
                stratum=stratum, **{kind: options[start + stratum] for kind, start in names.items()}
            )
            for stratum in STRATA
        ]
        numbers = {
            (row["bits"], row["stratum"]): " ".join(map(str, row["row_numbers"]))
            for row in self.rests_on.to_dict("records")
        }
        found = pd.concat(parts, ignore_index=True)
        keys = zip(found.bits, found.stratum, strict=True)
        return found.assign(rows=[numbers.get(key, "") for key in keys])


def subject_of(name: str) -> Subject:
    """A model of the Hub whose shapes are shipped; raises AnswerError for any other, with those that are called much
    the same."""
    from stratalaw.models.shipped import shipped_models

    known = shipped_models()
    if name in known:
        return Subject(name, known[name].shapes, name)
    of_lower = {other.lower(): other for other in known} | {other.partition("/")[2].lower(): other for other in known}
    asked = name.lower().rstrip("/").removeprefix("https://huggingface.co/")
    near = dict.fromkeys(of_lower[other] for other in get_close_matches(asked, of_lower, MOST_NAMED, 0.8))
    hint = f"; {' or '.join(near)}?" if near else ", such as Qwen/Qwen3-8B"
    raise AnswerError(
        f"{name}: neither a study (.yaml), a folder with a model's config.json, nor one of the "
        f"{len(known)} models whose shapes are shipped{hint}"
    )


def subject_in(folder: Path, shapes: Shapes) -> Subject:
    """A model in a folder: one whose shapes are shipped, if the folder is called as it is and the shapes are its."""
    from stratalaw.models.shipped import shipped_models

    same = [
        name
        for name, model in shipped_models().items()
        if name.rpartition("/")[2] == folder.resolve().name and model.shapes.matrices == shapes.matrices
    ]
    return Subject(str(folder), shapes, same[0] if len(same) == 1 else "")


def relatives_of(subject: Subject) -> list[Subject]:
    """The models of the same series whose shapes are shipped, the subject among them, the largest first."""
    from stratalaw.models.shipped import shipped_models

    series = SIZE_IN_NAME.sub("*", subject.repository)
    known = shipped_models()
    if "*" not in series:
        return [subject]
    others = [name for name in known if SIZE_IN_NAME.sub("*", name) == series and name != subject.repository]
    same = [subject, *(Subject(name, known[name].shapes, name) for name in others)]
    return sorted(same, key=lambda other: -other.shapes.n_params)


def answer(subject: Subject, question: Question, law: Law, rows: pd.DataFrame) -> Answer:
    """The answer.

    Args:
        subject: the model.
        question: what is asked.
        law: see ``law.Law``.
        rows: of the library, see ``law.law_rows``.

    Raises:
        AnswerError: an unknown stratum or benchmark, an impossible baseline, a context longer than the model's, or a
            model far smaller or larger than all published ones.
    """
    _check(subject, question)
    _check_size(subject, rows)
    related = [other for other in relatives_of(subject) if question.context <= other.shapes.max_length]
    baselines = dict(question.baselines or {})
    families = {model.name: model.family_in(rows) for model in related}
    options, shares = _options(related, families, question, law, tuple(baselines))
    own = options.model == subject.name
    score = options[[f"kept_{stratum}" for stratum in question.keep]].mean(axis=1)
    options = options.assign(score=score)
    of_subject = options[own].sort_values(["score", "memory"], ascending=[False, True]).reset_index(drop=True)
    return Answer(
        subject=subject,
        question=question,
        family=families[subject.name],
        is_known=bool((rows.model == subject.in_library).any()),
        options=of_subject,
        accuracies=_accuracies(of_subject, shares, subject, baselines),
        relatives=_relatives(options, question, rows, related),
        rests_on=_rests_on(subject, families[subject.name], of_subject, rows),
        chosen=_chosen(of_subject),
    )


def _check(subject: Subject, question: Question) -> None:
    for stratum in question.keep:
        if stratum not in STRATA:
            raise AnswerError(f"--keep {stratum}: not one of {', '.join(STRATA)}")
    known = strata_of_benchmarks()
    for benchmark, value in (question.baselines or {}).items():
        if benchmark not in known:
            raise AnswerError(f"--baseline {benchmark}: not one of {', '.join(sorted(known))}")
        if not chance_of(benchmark) < value <= 1:
            raise AnswerError(
                f"--baseline {benchmark}: {value:g} is not between chance ({chance_of(benchmark):g}) and 1"
            )
    if question.context > subject.shapes.max_length:
        raise AnswerError(f"--context {question.context}: {subject.name} takes {subject.shapes.max_length:,} tokens")


def _check_size(subject: Subject, rows: pd.DataFrame) -> None:
    """Published models span three orders of magnitude; far beyond them a line says nothing."""
    n_params, least, most = subject.shapes.n_params, rows.n_params.min(), rows.n_params.max()
    if not least / BEYOND <= n_params <= most * BEYOND:
        raise AnswerError(
            f"{subject.name} has {readable_count(n_params)} parameters, published models {readable_count(least)} to "
            f"{readable_count(most)}: make a study of it"
        )


def chance_of(benchmark: str) -> float:
    """The accuracy of answers that ignore the question."""
    from stratalaw.published.library import read_library

    if benchmark in CHANCE:
        return CHANCE[benchmark]
    table = read_library()
    return float(table.chance[table.benchmark == benchmark].iloc[0])


def variants_of(shapes: Shapes) -> list[Quantization]:
    """The variants that gptqmodel can make of a model: groups divide its matrices, and codes of 3 bits fill words."""
    return [
        Quantization(bits, size, CALIBRATION, 0)
        for bits in BITS
        for size in GROUP_SIZES
        if not any(matrix.is_ragged(size) or not matrix.can_be_packed(bits) for matrix in shapes.matrices)
    ]


def points_of(model: Subject, family: str, variants: Sequence[Quantization], wanted: Sequence[str]) -> pd.DataFrame:
    """Rows at which the law is asked: each variant of a model on each benchmark, from a source of its own."""
    strata = strata_of_benchmarks()
    about = {
        "model": model.in_library,
        "family": family,
        "n_params": float(model.shapes.n_params),
        "method": METHOD,
        "calibration": "",
        "source_id": NEW,
        "name": model.name,
    }
    return pd.DataFrame(
        [
            about
            | {
                "bits": float(variant.bits),
                "group_size": float(variant.group_size),
                "variant": variant.name,
                "benchmark": benchmark,
                "stratum": strata[benchmark],
            }
            for variant in variants
            for benchmark in wanted
        ]
    )


def _options(
    models: Sequence[Subject], families: Mapping[str, str], question: Question, law: Law, more: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[tuple[str, str, str], NDArray[np.float64]]]:
    """All options of some models, and draws of the kept share by model, variant and benchmark."""
    wanted = [*dict.fromkeys([*(name for names in REFERENCES.values() for name in names), *more])]
    points = pd.concat(
        [points_of(model, families[model.name], variants_of(model.shapes), wanted) for model in models],
        ignore_index=True,
    )
    draws = share_kept(law.log_damage(covariates(points), DRAWS))
    keys = zip(points.name, points.variant, points.benchmark, strict=True)
    shares = dict(zip(keys, draws, strict=True))
    found = []
    for model in models:
        for variant in (None, *variants_of(model.shapes)):
            cache = model.shapes.cache_bytes(question.context)
            weights = model.shapes.weight_bytes(variant)
            name = variant.name if variant else BASELINE_NAME
            fits = next(
                (text for text, size in ((FITS, cache), (FITS_WITH_8, cache / 2)) if weights + size <= question.memory),
                FITS_NOT,
            )
            option = {
                "model": model.name,
                "variant": name,
                "bits": variant.bits if variant else BASELINE_BITS,
                "group_size": variant.group_size if variant else np.nan,
                "memory": weights + cache,
                "memory_8": weights + cache / 2,
                "fits": fits,
            }
            for stratum, names in REFERENCES.items():
                values = (1.0, 1.0, 1.0) if variant is None else quantiles(
                    np.mean([shares[model.name, name, benchmark] for benchmark in names], axis=0)
                )  # fmt: skip
                option |= dict(zip((f"low_{stratum}", f"kept_{stratum}", f"high_{stratum}"), values, strict=True))
            found.append(option)
    return pd.DataFrame(found), shares


FITS, FITS_WITH_8, FITS_NOT = "yes", "with a cache of 8 bits", "no"


def memory_taken(option: Mapping[Hashable, Any]) -> float:
    """Bytes of an option: with a cache of 8 bits where only that fits, else of 16."""
    return float(option["memory_8" if option["fits"] == FITS_WITH_8 else "memory"])


def quantiles(draws: NDArray[np.float64]) -> tuple[float, ...]:
    """Low, median and high of draws at the level of the intervals."""
    return tuple(map(float, np.quantile(draws, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])))


def _accuracies(
    options: pd.DataFrame,
    shares: Mapping[tuple[str, str, str], NDArray[np.float64]],
    subject: Subject,
    baselines: Mapping[str, float],
) -> pd.DataFrame:
    found = []
    for variant in options.variant:
        for benchmark, value in baselines.items():
            kept = np.ones(1) if variant == BASELINE_NAME else shares[subject.name, variant, benchmark]
            chance = chance_of(benchmark)
            low, middle, high = quantiles(chance + (value - chance) * kept)
            found.append({"variant": variant, "benchmark": benchmark, "accuracy": middle, "low": low, "high": high})
    return pd.DataFrame(found, columns=["variant", "benchmark", "accuracy", "low", "high"])


def _relatives(
    options: pd.DataFrame, question: Question, rows: pd.DataFrame, models: Sequence[Subject]
) -> pd.DataFrame:
    """What would be chosen of each model, and what it is expected to reach on the strata that matter."""
    chosen = [_chosen(of_model) for _, of_model in options.groupby("model", sort=False)]
    best = options.loc[[place for place in chosen if place is not None]]
    originals, source = _originals(rows, models, question.keep)
    expected = []
    for row in best.to_dict("records"):
        of_model = originals.get(row["model"])
        parts = [of_model[s] * row[f"kept_{s}"] for s in question.keep] if of_model else []
        expected.append(float(np.mean(parts)) if parts else np.nan)
    sizes = {model.name: model.shapes.n_params for model in models}
    best = best.assign(expected=expected, source=source, n_params=best.model.map(sizes))
    return best.sort_values(["expected", "n_params"], ascending=False, na_position="last").reset_index(drop=True)


def _originals(
    rows: pd.DataFrame, models: Sequence[Subject], keep: Sequence[str]
) -> tuple[dict[str, dict[str, float]], str]:
    """Adjusted accuracies of the models' originals by stratum, from the one source that has most of the models.

    All are means over the benchmarks that the source has for each of its models.
    """
    names = {model.in_library: model.name for model in models}
    table = rows[rows.model.isin(list(names)) & rows.stratum.isin(list(keep))]
    best: tuple[dict[str, dict[str, float]], str] = ({}, "")
    for source, part in table.groupby("source_id"):
        wide = part.pivot_table(index="model", columns=["stratum", "benchmark"], values="original").dropna(axis=1)
        if set(wide.columns.get_level_values(0)) == set(keep) and len(wide) > max(len(best[0]), 1):
            means = wide.T.groupby(level=0).mean().T
            best = {names[str(model)]: dict(values) for model, values in means.iterrows()}, str(source)
    return best


def _rests_on(subject: Subject, family: str, options: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """What of the library an answer rests on, by stratum and bits: counts, and the rows that are nearest."""
    table = by_stratum(rows[rows.method == METHOD])
    found = []
    for bits in sorted({bits for bits in options.bits if bits < BASELINE_BITS}, reverse=True):
        for stratum in STRATA:
            part = table[(table.bits == bits) & (table.stratum == stratum)]
            own = part[part.model == subject.in_library]
            distance = np.abs(np.log(part.n_params / subject.shapes.n_params)) - (part.family == family)
            order = part.iloc[np.argsort(distance.to_numpy(), kind="stable")]
            near = own if len(own) else order[order.model.isin(order.model.unique()[:NEAREST])]
            found.append(
                {
                    "bits": int(bits),
                    "stratum": stratum,
                    "rows": int(part.rows.map(len).sum()),
                    "models": part.model.nunique(),
                    "sources": part.source_id.nunique(),
                    "own": len(own) > 0,
                    "measured_width": _measured_width(rows, near),
                    "nearest": ", ".join(near.model.unique()),
                    "nearest_kept": float(near.kept.median()),
                    "row_numbers": sorted(number for numbers in near.rows for number in numbers),
                }
            )
    return pd.DataFrame(found)


def _measured_width(rows: pd.DataFrame, near: pd.DataFrame) -> float:
    """How wide the interval of the kept share is once it is measured by paired items, for models like those near."""
    numbers = {number for of_setting in near.rows for number in of_setting}
    part = rows[rows.row.isin(numbers)]
    span = float((part.accuracy_16 - part.chance).median())
    return 2 * 1.96 * float(np.sqrt(FLIPPED / ITEMS)) / span


def _chosen(options: pd.DataFrame) -> int | None:
    """The label of a model's best option that fits: the original, if it does with a cache of 16 bits; of those within a
    point of the best, the smallest."""
    fitting = options[options.fits != FITS_NOT]
    if fitting.empty:
        return None
    original = fitting[fitting.bits == BASELINE_BITS]
    if len(original) and original.fits.iloc[0] == FITS:
        return int(original.index[0])
    close = fitting[fitting.score >= fitting.score.max() - ONE_POINT]
    return int(close.memory.idxmin())
