"""The sensitivities of a model's strata: measured between checkpoints of it, and kept under results/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from itertools import product

import pandas as pd

from stratalaw.errors import StratalawError
from stratalaw.jobs.stages import device, use_no_network
from stratalaw.layout import Results
from stratalaw.models.allocation import bytes_more, loaded_as
from stratalaw.models.folder import AUDIT, manifest_seal
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.quantization.unquantizable import why_unquantizable
from stratalaw.seals import Seal, read_table, seal_of, write_table
from stratalaw.sensitivities.margins import CHOOSING
from stratalaw.sensitivities.measuring import Subject
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME, UNIFORM_PATTERN, Precision, Quantization, calibration_of

KIND = "sensitivities"


class SensitivityError(StratalawError):
    """Sensitivities cannot be measured or are not there; the message says what is missing."""


def measure_sensitivities(
    study: Study, model: str, base: str, others: Sequence[str], strata: Sequence[str], items: int, results: Results
) -> pd.DataFrame:
    """What each group of matrices changes in each stratum when it alone goes from the bits of one variant to those of
    each of some others; written as well, in one table for each other variant and stratum.

    Columns: ``group``, ``variant`` (the other), ``stratum``, ``kind`` (measured, or to first order), ``gain`` (nats of
    an item's margin; less than 0 for a loss), ``stderr``, ``n_items`` and ``bytes`` (what the group takes more; less
    than 0 for less).

    Args:
        study: whose benchmarks ask.
        model: one of its models.
        base, others: uniform variants of it that were quantized.
        strata: those that are asked.
        items: of each stratum at most so many, of the half for choosing.
        results: where the checkpoints and the requests are, and where the tables come.

    Raises:
        SensitivityError: a variant or a stratum is none, or something is missing.
        SealError: a file is damaged.
    """
    from stratalaw.sensitivities.first_order import first_order_gains
    from stratalaw.sensitivities.measuring import measured_gains

    check_variants(study, model, base, others, results)
    check_strata(study, strata)
    sources = {
        (other, stratum): made_from(model, base, other, stratum, results) for other, stratum in product(others, strata)
    }
    subject = subject_of(study, model, base, others, strata, {CHOOSING: items}, results)[CHOOSING]
    table = pd.concat([measured_gains(subject), first_order_gains(subject)], ignore_index=True)
    more = more_bytes(model, base, others, results)
    table["bytes"] = [more[option] for option in zip(table.group, table.variant, strict=True)]
    for (other, stratum), of_both in sources.items():
        rows = table[(table.variant == other) & (table.stratum == stratum)].reset_index(drop=True)
        path = results.sensitivities(model, base, other, stratum)
        write_table(rows, path, Seal(KIND, _about(model, base, other, stratum), of_both))
    return table


def read_sensitivities(
    model: str, base: str, others: Sequence[str], strata: Sequence[str], results: Results
) -> pd.DataFrame:
    """What ``measure_sensitivities`` wrote of some strata, of the checkpoints and the requests that are there now."""
    tables = [
        read_table(
            results.sensitivities(model, base, other, stratum),
            KIND,
            _about(model, base, other, stratum),
            made_from(model, base, other, stratum, results),
        )[0]
        for other, stratum in product(others, strata)
    ]
    return pd.concat(tables, ignore_index=True)


def subject_of(
    study: Study,
    model: str,
    base: str,
    others: Sequence[str],
    strata: Sequence[str],
    items: Mapping[int, int | None],
    results: Results,
) -> dict[int, Subject]:
    """What is measured, for each half of the items; the halves share one model.

    Args:
        items: of each half that is wanted, at most so many of each stratum; all if None.
    """
    import torch

    from stratalaw.evaluation.answers import load_dense
    from stratalaw.sensitivities.margins import items_of_half
    from stratalaw.sensitivities.swapping import is_small, parameters_of_groups

    use_no_network()
    asked: dict[int, dict[str, pd.DataFrame]] = {half: {} for half in items}
    for stratum in strata:
        with_margins = asked_of(study, model, stratum, results)
        for half, most in items.items():
            asked[half][stratum] = items_of_half(with_margins, half, most)
            if asked[half][stratum].empty:
                raise SensitivityError(
                    f"{stratum}: no item of it has a margin: none has a right continuation, and the original writes no "
                    "right answer"
                )
    # Unpacked on the GPU, which is fast; they stay there only where there is room beside a model and its passes.
    weights: dict[str, dict[str, torch.Tensor]] = {}
    for other in others:
        dense = load_dense(results.checkpoint(model, other), device())
        groups = parameters_of_groups(dense, shapes_of_weights(results.model(model)).matrices)
        place = dense.device if is_small(dense, len(others)) else torch.device("cpu")
        names = [name for of_group in groups.values() for name in of_group]
        weights[other] = {name: dense.get_parameter(name).detach().to(place) for name in names}
        del dense
    dense = load_dense(results.checkpoint(model, base), device())
    return {
        half: Subject(dense, weights, groups, of_half, study.evaluation.tokens_per_batch)
        for half, of_half in asked.items()
    }


def asked_of(study: Study, model: str, stratum: str, results: Results) -> pd.DataFrame:
    """The requests of the items of a stratum that have a margin, with ``is_right``: those that are answered by
    choosing, and those that the original answers right by writing."""
    from stratalaw.evaluation.answers import context_length
    from stratalaw.evaluation.documents import replayed_documents
    from stratalaw.evaluation.scoring import Scorer
    from stratalaw.sensitivities.margins import choices_of, written_of

    requests, _ = read_table(results.requests(model, stratum), "requests")
    documents, _ = read_table(results.documents(model, stratum), "documents")
    path = results.answers(model, BASELINE_NAME, stratum)
    answers, _ = read_table(path, "answers", {"variant": BASELINE_NAME})
    if "token_ids" not in answers:
        raise SensitivityError(
            f"{path} does not say which tokens were written: stratalaw redo STUDY.yaml {model}/{BASELINE_NAME} --from "
            "answers"
        )
    with replayed_documents(documents), redirect_stderr(StringIO()):  # progress bars of lm-eval
        scorer = Scorer(requests, study.evaluation, stratum)
        chosen, written = scorer.scores_of_choices(), scorer.scores_of_written(answers)
    max_length = context_length(results.model(model))
    return pd.concat([choices_of(requests, chosen), written_of(requests, written, answers.token_ids, max_length)])


def check_variants(study: Study, model: str, base: str, others: Sequence[str], results: Results) -> None:
    """Raise SensitivityError unless all are checkpoints of a model of the study, and each other one has a precision
    that no other of them has."""
    check_model(study, model, results)
    variants = [base, *others]
    for variant in variants:
        if not UNIFORM_PATTERN.fullmatch(variant):
            raise SensitivityError(f"{variant!r} is not the name of a uniform variant such as w3-g128-c32-s0")
    seen: dict[Precision, str] = {}
    for variant in variants:
        (precision,) = Quantization.from_name(variant).precisions
        if precision in seen:
            raise SensitivityError(f"{seen[precision]} and {variant} have the same bits and group size")
        seen[precision] = variant
        if calibration_of(variant) != calibration_of(base):
            raise SensitivityError(
                f"{variant} is calibrated otherwise than {base}: their difference is not of bits alone"
            )
    for variant in variants:
        folder = results.checkpoint(model, variant)
        if not folder.exists() or why_unquantizable(folder):
            raise SensitivityError(f"{folder} holds no checkpoint: run the study with that variant first")
    for stratum in study.evaluation.strata:
        for path in (results.documents(model, stratum), results.answers(model, BASELINE_NAME, stratum)):
            if not path.exists():
                raise SensitivityError(f"{path} is not there: run the study first")


def check_strata(study: Study, strata: Iterable[str]) -> None:
    """Raise SensitivityError unless all are strata of the study."""
    known = list(study.evaluation.strata)
    if unknown := sorted(set(strata) - set(known)):
        raise SensitivityError(f"{unknown[0]} is not one of the study's strata ({', '.join(known)})")


def check_model(study: Study, model: str, results: Results) -> None:
    """Raise SensitivityError unless a model is one of the study's and was copied or fetched."""
    names = [entry.name for entry in study.models]
    if model not in names:
        raise SensitivityError(f"{model} is not one of the study's models ({', '.join(names)})")
    if not results.model(model).exists():
        raise SensitivityError(f"{results.model(model)} is not there: run the study first")


def more_bytes(model: str, base: str, others: Sequence[str], results: Results) -> dict[tuple[str, str], int]:
    """What each group of matrices takes more in each other variant than in the base, by group and variant."""
    matrices = shapes_of_weights(results.model(model)).matrices
    more = {other: bytes_more(matrices, *map(Quantization.from_name, (base, other))) for other in others}
    return {(group, other): count for other, of_group in more.items() for group, count in of_group.items()}


def losses_of_gptq(model: str, base: str, others: Sequence[str], results: Results) -> pd.Series:
    """By how much the layer-wise error that GPTQ reports is smaller in each other variant than in the base, by group
    and variant: the simple rule that knows of no stratum."""
    matrices = shapes_of_weights(results.model(model)).matrices
    groups = {_without_path(group): group for group in (loaded_as(matrix.name) for matrix in matrices)}

    def losses(variant: str) -> dict[str, float]:
        found = dict.fromkeys(groups.values(), 0.0)
        audit = json.loads((results.checkpoint(model, variant) / AUDIT).read_text())
        for module in audit["modules"]:
            found[groups[loaded_as(module["name"])]] += module["loss"] * module["tokens"]
        return found

    of_base = losses(base)
    smaller = {(group, other): of_base[group] - loss for other in others for group, loss in losses(other).items()}
    return pd.Series(smaller)


def _without_path(group: str) -> str:
    """A group as audits name matrices: from the number of its layer on."""
    parts = group.split(".")
    return ".".join(parts[next(place for place, part in enumerate(parts) if part.isdecimal()) :])


def made_from(model: str, base: str, other: str, stratum: str, results: Results) -> dict[str, str]:
    """The digests of all that the sensitivities of a stratum depend on."""
    from stratalaw.quantization.gptq import checkpoint_seal

    of_model = {"model": manifest_seal(results.model(model)).digest}
    checkpoints = {
        name: checkpoint_seal(results.checkpoint(model, variant), of_model).digest
        for name, variant in (("base", base), ("other", other))
    }
    asked = {"requests": results.requests(model, stratum), "answers": results.answers(model, BASELINE_NAME, stratum)}
    return {**of_model, **checkpoints, **{name: seal_of(path).digest for name, path in asked.items()}}


def _about(model: str, base: str, other: str, stratum: str) -> dict[str, str]:
    return {"model": model, "base": base, "other": other, "stratum": stratum}
