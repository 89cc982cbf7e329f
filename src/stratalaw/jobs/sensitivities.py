"""The sensitivities of a model's strata: measured between two of its checkpoints, and kept under results/."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO

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
from stratalaw.study.variants import UNIFORM_PATTERN, Quantization

KIND = "sensitivities"


class SensitivityError(StratalawError):
    """Sensitivities cannot be measured or are not there; the message says what is missing."""


def measure_sensitivities(study: Study, model: str, low: str, high: str, items: int, results: Results) -> pd.DataFrame:
    """What each group of matrices adds to each stratum when it has the bits of another variant; written as well.

    Columns: ``group``, ``stratum``, ``kind`` (measured, or to first order), ``gain`` (nats of an item's margin),
    ``stderr``, ``n_items`` and ``bytes`` (what the group takes more).

    Args:
        study: whose benchmarks ask.
        model: one of its models.
        low, high: two uniform variants of it that were quantized; the second has more bits.
        items: of each stratum at most so many, of the half for choosing.
        results: where the checkpoints and the requests are, and where the table comes.

    Raises:
        SensitivityError: a variant is none, or something is missing.
        SealError: a file is damaged.
    """
    from stratalaw.sensitivities.first_order import first_order_gains
    from stratalaw.sensitivities.measuring import measured_gains

    check_variants(study, model, low, high, results)
    sources = made_from(model, low, high, list(study.evaluation.strata), results)
    subject = subject_of(study, model, low, high, {CHOOSING: items}, results)[CHOOSING]
    table = pd.concat([measured_gains(subject), first_order_gains(subject)], ignore_index=True)
    table["bytes"] = table.group.map(more_bytes(model, low, high, results))
    write_table(table, results.sensitivities(model, low, high), Seal(KIND, _about(model, low, high), sources))
    return table


def read_sensitivities(study: Study, model: str, low: str, high: str, results: Results) -> pd.DataFrame:
    """What ``measure_sensitivities`` wrote, of the checkpoints and the requests that are there now."""
    sources = made_from(model, low, high, list(study.evaluation.strata), results)
    path = results.sensitivities(model, low, high)
    return read_table(path, KIND, _about(model, low, high), sources)[0]


def subject_of(
    study: Study, model: str, low: str, high: str, items: dict[int, int | None], results: Results
) -> dict[int, Subject]:
    """What is measured, for each half of the items; the halves share one model.

    Args:
        items: of each half that is wanted, at most so many of each stratum; all if None.
    """
    import torch

    from stratalaw.evaluation.answers import load_dense
    from stratalaw.evaluation.documents import replayed_documents
    from stratalaw.evaluation.scoring import Scorer
    from stratalaw.sensitivities.margins import requests_of_half
    from stratalaw.sensitivities.swapping import is_small, parameters_of_groups

    use_no_network()
    asked: dict[int, dict[str, pd.DataFrame]] = {half: {} for half in items}
    for stratum in study.evaluation.strata:
        requests, _ = read_table(results.requests(model, stratum), "requests")
        documents, _ = read_table(results.documents(model, stratum), "documents")
        with replayed_documents(documents), redirect_stderr(StringIO()):  # progress bars of lm-eval
            scores = Scorer(requests, study.evaluation, stratum).scores_of_choices()
        for half, most in items.items():
            asked[half][stratum] = requests_of_half(requests, scores, half, most)
            if asked[half][stratum].empty:
                raise SensitivityError(
                    f"{stratum}: no benchmark of it is answered by choosing among continuations, and only such items "
                    "have a margin"
                )
    # Unpacked on the GPU, which is fast; it stays there only where there is room beside a model and its passes.
    larger = load_dense(results.checkpoint(model, high), device())
    groups = parameters_of_groups(larger, shapes_of_weights(results.model(model)).matrices)
    place = larger.device if is_small(larger) else torch.device("cpu")
    other = {name: larger.get_parameter(name).detach().to(place) for names in groups.values() for name in names}
    del larger
    dense = load_dense(results.checkpoint(model, low), device())
    return {
        half: Subject(dense, other, groups, of_half, study.evaluation.tokens_per_batch)
        for half, of_half in asked.items()
    }


def check_variants(study: Study, model: str, low: str, high: str, results: Results) -> None:
    """Raise SensitivityError unless both variants are checkpoints of a model of the study, of which one has more."""
    check_model(study, model, results)
    for variant in (low, high):
        if not UNIFORM_PATTERN.fullmatch(variant):
            raise SensitivityError(f"{variant!r} is not the name of a uniform variant such as w3-g128-c32-s0")
    for variant in (low, high):
        folder = results.checkpoint(model, variant)
        if not folder.exists() or why_unquantizable(folder):
            raise SensitivityError(f"{folder} holds no checkpoint: run the study with that variant first")
    for stratum in study.evaluation.strata:
        if not results.documents(model, stratum).exists():
            raise SensitivityError(f"{results.requests(model, stratum)} is not there: run the study first")
    if Quantization.from_name(low).bits >= Quantization.from_name(high).bits:
        raise SensitivityError(f"{high} must have more bits than {low}")


def check_model(study: Study, model: str, results: Results) -> None:
    """Raise SensitivityError unless a model is one of the study's and was copied or fetched."""
    names = [entry.name for entry in study.models]
    if model not in names:
        raise SensitivityError(f"{model} is not one of the study's models ({', '.join(names)})")
    if not results.model(model).exists():
        raise SensitivityError(f"{results.model(model)} is not there: run the study first")


def more_bytes(model: str, low: str, high: str, results: Results) -> dict[str, int]:
    """What each group of matrices takes more in the larger variant, by its name."""
    shapes = shapes_of_weights(results.model(model))
    return bytes_more(shapes.matrices, Quantization.from_name(low), Quantization.from_name(high))


def losses_of_gptq(model: str, low: str, high: str, results: Results) -> pd.Series:
    """By how much the layer-wise error that GPTQ reports is smaller in the larger variant, by group: the simple rule
    that knows of no stratum."""
    matrices = shapes_of_weights(results.model(model)).matrices
    groups = {_without_path(group): group for group in (loaded_as(matrix.name) for matrix in matrices)}
    losses = dict.fromkeys(groups.values(), 0.0)
    for variant, sign in ((low, 1), (high, -1)):
        audit = json.loads((results.checkpoint(model, variant) / AUDIT).read_text())
        for module in audit["modules"]:
            losses[groups[loaded_as(module["name"])]] += sign * module["loss"] * module["tokens"]
    return pd.Series(losses)


def _without_path(group: str) -> str:
    """A group as audits name matrices: from the number of its layer on."""
    parts = group.split(".")
    return ".".join(parts[next(place for place, part in enumerate(parts) if part.isdecimal()) :])


def made_from(model: str, low: str, high: str, strata: list[str], results: Results) -> dict[str, str]:
    """The digests of all that sensitivities depend on."""
    from stratalaw.quantization.gptq import checkpoint_seal

    of_model = {"model": manifest_seal(results.model(model)).digest}
    checkpoints = {
        name: checkpoint_seal(results.checkpoint(model, variant), of_model).digest
        for name, variant in (("low", low), ("high", high))
    }
    asked = {f"requests.{name}": seal_of(results.requests(model, name)).digest for name in strata}
    return {**of_model, **checkpoints, **asked}


def _about(model: str, low: str, high: str) -> dict[str, str]:
    return {"model": model, "low": low, "high": high}
