"""A variant of a finished study as a folder that engines load: the packed checkpoint, its audit, and a model card."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from stratalaw.errors import StratalawError
from stratalaw.evaluation.tasks import data_set_of, task_manager
from stratalaw.export.card import Exported, card_of
from stratalaw.files import appears_whole
from stratalaw.layout import Results
from stratalaw.models.folder import goes_with_weights, manifest_seal, verify_beside_weights
from stratalaw.models.hub import DownloadError, Repository, download_file
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.quantization.gptq import read_audit, verify_checkpoint
from stratalaw.quantization.unquantizable import why_unquantizable
from stratalaw.seals import read_table
from stratalaw.study import Model, Study, StudyError
from stratalaw.study.plain_yaml import YamlError, parse_yaml
from stratalaw.study.variants import BASELINE_NAME, Quantization

LOG = logging.getLogger(__name__)
CARD = "README.md"
FENCE = "---"


class ExportError(StratalawError):
    """A variant that cannot be exported; the message is one line that says what to do."""


def export(study: Study, name: str, folder: Path, results: Results) -> None:
    """Write a variant as a folder to serve from, or to put on the Hub; it appears whole or not at all.

    Args:
        study: finished as far as its damage table.
        name: ``MODEL/VARIANT``.
        folder: must not exist.
        results: of the study.

    Raises:
        ExportError: the study has no such variant, it was not made or could not be, or ``folder`` exists.
        ModelError, SealError: a file of the checkpoint, or a table, is not what it was when it was made.
    """
    if folder.exists():
        raise ExportError(f"{folder}: exists already, and nothing is overwritten; give another folder")
    model, quantization = variant_of(study, name)
    checkpoint, original = results.checkpoint(model.name, quantization.name), results.model(model.name)
    table = results.of_study(study.name, "damage.parquet")
    for path in (original, checkpoint, table):
        if not path.exists():
            raise ExportError(f"{name}: {path} is not there; run the study first")
    if reason := why_unquantizable(checkpoint):
        raise ExportError(f"{name}: it could not be quantized: {reason}")
    audit = read_audit(checkpoint, {"model": manifest_seal(original).digest})
    verify_checkpoint(checkpoint)
    verify_beside_weights(original)
    damage, _ = read_table(table, "damage", {"study": study.name})
    rows = damage[(damage.model == model.name) & (damage.variant == quantization.name)]
    if rows.empty:
        raise ExportError(f"{name}: {table} has no row of it; run the study again")
    is_of_the_hub = model.revision is not None
    exported = Exported(
        name=name,
        base=model.source if is_of_the_hub else Path(model.source).name,
        base_commit=model.revision or "",
        licence=licence_of(model),
        quantization=quantization,
        options=study.gptq,
        calibration=study.calibration,
        shapes=shapes_of_weights(original),
        audit=audit,
        damage=rows,
        benchmarks=study.evaluation.strata,
        data_sets=_data_sets(study),
    )
    with appears_whole(folder) as unfinished:
        unfinished.mkdir()
        # Of a file that is in both, the checkpoint's says how it is packed.
        beside = [path for path in original.iterdir() if goes_with_weights(path.name)]
        for path in [*beside, *checkpoint.iterdir()]:
            if path.is_file() and not path.name.startswith("."):
                shutil.copy(path, unfinished / path.name)
        (unfinished / CARD).write_text(card_of(exported))


def variant_of(study: Study, name: str) -> tuple[Model, Quantization]:
    """The model and the quantization that a name means; raises ExportError where the study has no such variant."""
    model_name, _, variant = name.partition("/")
    model = next((model for model in study.models if model.name == model_name), None)
    if model is None:
        raise ExportError(
            f"{name}: the study has no model {model_name}; it has {', '.join(m.name for m in study.models)}"
        )
    if variant == BASELINE_NAME:
        raise ExportError(f"{name}: is the original itself, {model.source}; name a quantized variant")
    known = {quantization.name: quantization for quantization in study.quantizations_of(model)}
    if variant not in known:
        raise ExportError(
            f"{name}: the study has no such variant of {model_name}; it has {next(iter(known), 'none')} …"
        )
    return model, known[variant]


def _data_sets(study: Study) -> dict[str, str]:
    """Of each task, its data set on the Hub; its own name where it has none."""
    manager = task_manager(study.evaluation)
    tasks = [benchmark.task for benchmarks in study.evaluation.strata.values() for benchmark in benchmarks]
    found = {}
    for task in tasks:
        try:
            found[task] = data_set_of(manager, task) or task
        except StudyError:  # of several data sets
            found[task] = task
    return found


def licence_of(model: Model) -> str:
    """The licence of a model by its card's front matter, in its folder or on the Hub; empty where it is not known.

    The Hub is not asked where ``HF_HUB_OFFLINE`` is set.
    """
    if model.revision is None:
        return _licence_in(Path(model.source) / CARD)
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return ""
    with TemporaryDirectory() as scratch:
        try:
            download_file(Repository(model.source, commit=model.revision), CARD, Path(scratch) / CARD)
        except DownloadError as error:
            LOG.warning("the licence of %s is not known: %s", model.source, error)
            return ""
        return _licence_in(Path(scratch) / CARD)


def _licence_in(card: Path) -> str:
    if not card.is_file():
        return ""
    _, _, rest = card.read_text(errors="replace").partition(f"{FENCE}\n")
    try:
        about = parse_yaml(rest.partition(f"\n{FENCE}")[0])
    except YamlError:
        return ""
    licence = about.get("license") if isinstance(about, dict) else None
    return licence if isinstance(licence, str) else ""
