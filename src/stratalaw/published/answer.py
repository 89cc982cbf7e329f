"""Which quantization of a model, in a memory, keeps what is needed: answered by published numbers, without a study.

The variants are those of GPTQ whose groups divide the matrices. Kept shares are expected by the law of published
numbers, for a source of its own: whoever quantizes and asks next differs from all sources so far, as these differ from
each other. A model of the library is expected from its own rows as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
ONE_POINT = 0.01  # closer than that, the smaller one is chosen
ITEMS, FLIPPED = 1000, 0.1  # a measurement as a study makes it, if a tenth of the answers turns right or wrong
DRAWS = 2000
BEYOND = 3  # times the smallest or the largest published model


class AnswerError(StratalawError):
    """A question that cannot be answered; the message says why in one line."""


@dataclass(frozen=True)
class Subject:
    """A model to choose a quantization of; ``name``: its repository or folder."""

    name: str
    shapes: Shapes

    @property
    def in_library(self) -> str:
        """Its name in the library, if it is there."""
        for start, other in SAME_MODEL.items():
            if self.name.startswith(start):
                return other + self.name.removeprefix(start)
        return self.name

    @property
    def family(self) -> str:
        return next((family for name, family in FAMILIES.items() if re.fullmatch(name, self.name)), NEW)


@dataclass(frozen=True)
class Question:
    """What is asked.

    ``memory``: bytes of weights and cache; ``context``: tokens in the cache; ``keep``: strata that matter;
    ``baselines``: accuracies of the original by benchmark.
    """

    memory: float
    context: int
    keep: tuple[str, ...] = STRATA
    baselines: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Answer:
    """The options, the chosen one first.

    ``options``: model, variant, bits, group_size, memory (with a cache of 16 bits), memory_8 (of 8 bits), fits ("yes",
    "with a cache of 8 bits" or "no"), and of each stratum kept, low, high; ``accuracies``: variant, benchmark,
    accuracy, low, high, for the baselines; ``relatives``: the best option of each model of the same series, with
    expected, the mean adjusted accuracy over what is kept, where one source has the originals of all;
    ``rests_on``: stratum, bits, rows, models, sources, nearest, row numbers, and measured_width, of the interval
    that a measurement of the stratum would leave; ``chosen``: place in options, or None.
    """

    subject: Subject
    question: Question
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
    """A model of the Hub whose shapes are shipped; raises AnswerError for any other."""
    from stratalaw.models.shipped import shipped_models

    if name in shipped_models():
        return Subject(name, shipped_models()[name].shapes)
    raise AnswerError(
        f"{name}: neither a study (.yaml), a folder with a model's config.json, nor one of the "
        f"{len(shipped_models())} models whose shapes are shipped, such as Qwen/Qwen3-8B"
    )


def relatives_of(subject: Subject) -> list[Subject]:
    """The models of the same series whose shapes are shipped, the subject among them, the largest first."""
    from stratalaw.models.shipped import shipped_models

    series = SIZE_IN_NAME.sub("*", subject.name)
    known = shipped_models()
    same = [Subject(name, known[name].shapes) for name in known if SIZE_IN_NAME.sub("*", name) == series]
    if subject.name not in known or "*" not in series:
        return [subject]
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
    options, shares = _options(related, question, law, tuple(baselines))
    own = options.model == subject.name
    score = options[[f"kept_{stratum}" for stratum in question.keep]].mean(axis=1)
    options = options.assign(score=score)
    relatives = _relatives(options, question, rows, related)
    of_subject = options[own].sort_values(["score", "memory"], ascending=[False, True]).reset_index(drop=True)
    return Answer(
        subject=subject,
        question=question,
        options=of_subject,
        accuracies=_accuracies(of_subject, shares, subject, baselines),
        relatives=relatives,
        rests_on=_rests_on(subject, of_subject, rows),
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


def points_of(model: Subject, variants: Sequence[Quantization], wanted: Sequence[str]) -> pd.DataFrame:
    """Rows at which the law is asked: each variant of a model on each benchmark, from a source of its own."""
    strata = strata_of_benchmarks()
    about = {
        "model": model.in_library,
        "family": model.family,
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
    models: Sequence[Subject], question: Question, law: Law, more: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[tuple[str, str, str], NDArray[np.float64]]]:
    """All options of some models, and draws of the kept share by model, variant and benchmark."""
    wanted = [*dict.fromkeys([*(name for names in REFERENCES.values() for name in names), *more])]
    points = pd.concat([points_of(model, variants_of(model.shapes), wanted) for model in models], ignore_index=True)
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
    """The best option that fits of each model, and what it is expected to reach on the strata that matter."""
    fitting = options[options.fits != FITS_NOT]
    best = fitting.sort_values(["score", "memory"], ascending=[False, True]).drop_duplicates("model")
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


def _rests_on(subject: Subject, options: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """What of the library an answer rests on, by stratum and bits: counts, and the rows that are nearest."""
    table = by_stratum(rows[rows.method == METHOD])
    found = []
    for bits in sorted({bits for bits in options.bits if bits < BASELINE_BITS}, reverse=True):
        for stratum in STRATA:
            part = table[(table.bits == bits) & (table.stratum == stratum)]
            own = part[part.model == subject.in_library]
            distance = np.abs(np.log(part.n_params / subject.shapes.n_params)) - (part.family == subject.family)
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
    """The place of the best option that fits; of those within a point of it, the smallest that is quantized."""
    fitting = options[options.fits != FITS_NOT]
    if fitting.empty:
        return None
    original = fitting[fitting.bits == BASELINE_BITS]
    if len(original) and original.fits.iloc[0] == FITS:
        return int(original.index[0])
    close = fitting[fitting.score >= fitting.score.max() - ONE_POINT]
    return int(close.memory.idxmin())


def bytes_of(text: str) -> float:
    """An amount of memory such as 12GB or 11.5GiB; raises AnswerError."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return float(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise AnswerError(f"--memory {text}: not an amount such as 12GB") from None
