"""The stages of the workflow, in the order of the data: each reads files, calls the library, and writes files.

Heavy libraries are imported by the stage that needs them. Paths and options come as text and plain values, so that a
warm worker can be asked for them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stratalaw.files import appears_whole, write_csv, write_json, write_parquet, write_text

LOG = logging.getLogger(__name__)


def device() -> str:
    """Where models run on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_no_network() -> None:
    """Make the libraries fail at once rather than ask the Hub: all that a job needs is under ``results/``."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True


def write_captions(texts: Mapping[str, str], files: Sequence[str]) -> None:
    """Write the report's captions of tables and figures, each to the file named after it."""
    for path in map(Path, files):
        write_text(texts[path.stem] + "\n", path)


def provide_model(source: str, revision: str | None, downloads: str, model: str) -> None:
    """A model's folder, whole and checked, with the hashes of its files: copied, or fetched if it has a revision."""
    if revision is None:
        from stratalaw.models.folder import copy_model

        copy_model(Path(source), Path(model))
    else:
        from stratalaw.models.hub import Repository, download_model

        download_model(Repository(source, commit=revision), Path(model), Path(downloads))


def fetch_corpus(dataset: str, revision: str, file: str, corpus: str) -> None:
    """The calibration corpus, from a data set of the Hub."""
    from stratalaw.models.hub import Repository, download_file

    download_file(Repository(dataset, "dataset", revision), file, Path(corpus))


def record_requests(
    model: str,
    evaluation: Mapping[str, Any],
    requests: Sequence[str],
    batchings: Sequence[str],
    documents: Sequence[str],
) -> None:
    """Every request that lm-eval makes, tokenized, one table for each stratum and named after it.

    Beside it are its batches, and the documents that the metrics need: no later stage asks the Hub or a cache.
    """
    from transformers import AutoTokenizer

    from stratalaw.engine import save_batching
    from stratalaw.evaluation import harness
    from stratalaw.evaluation.answers import batch_requests, context_length
    from stratalaw.evaluation.documents import recorded_documents
    from stratalaw.study import Tasks

    tokenizer, length, options = (
        AutoTokenizer.from_pretrained(model, trust_remote_code=False),
        context_length(Path(model)),
        Tasks(**evaluation),
    )
    for table, batched, kept in zip(requests, batchings, documents, strict=True):
        stratum = Path(table).stem
        with recorded_documents() as loaded:
            recorded = harness.record_requests(tokenizer, length, options, stratum)
        batching = batch_requests(recorded, length, options.tokens_per_batch)
        LOG.info("%s: %d of %d tokens run", stratum, batching.tokens, batching.plain_tokens)
        write_parquet(recorded, Path(table))
        write_parquet(loaded.table(), Path(kept))
        with appears_whole(Path(batched)) as unfinished:
            save_batching(batching, unfinished)


def draw_calibration(
    model: str,
    corpus: str,
    requests: Sequence[str],
    samples: int,
    tokens: int,
    overlap_words: int | None,
    seed: int,
    drawn: str,
) -> None:
    """A draw of calibration samples as token ids; its metadata count the texts that overlap with the requests."""
    import pandas as pd
    from transformers import AutoTokenizer

    from stratalaw.calibration.overlap import Overlap, item_texts
    from stratalaw.calibration.samples import CorpusError, read_corpus, sample

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    texts = read_corpus(Path(corpus))
    overlap = None
    if overlap_words is not None:
        asked = (argument for path in requests for argument in pd.read_parquet(path, columns=["arguments"]).arguments)
        overlap = Overlap(item_texts(asked), overlap_words)
    try:
        table = sample(
            texts,
            tokenizer.encode,
            samples=samples,
            tokens=tokens,
            seed=seed,
            is_allowed=overlap.is_free if overlap else lambda text: True,
        )
    except CorpusError as error:
        raise CorpusError(f"{corpus}: {error}") from None
    if overlap:
        table.attrs["overlapping_texts"] = overlap.overlapping
        LOG.info("%d texts skipped that share %d words with a benchmark item", overlap.overlapping, overlap_words)
    write_parquet(table, Path(drawn))


def quantize_model(model: str, calibration: str, options: Mapping[str, Any], checkpoint: str) -> None:
    """One GPTQ checkpoint, with its audit; the folder's name says which variant.

    If a variant cannot be quantized, the reason is recorded in its place (see ``quantization.unquantizable``).
    """
    import pandas as pd

    from stratalaw.models.folder import verify_model
    from stratalaw.quantization.gptq import quantize
    from stratalaw.quantization.unquantizable import is_unquantizable, record_unquantizable
    from stratalaw.study import Gptq
    from stratalaw.study.variants import Quantization

    use_no_network()
    verify_model(Path(model))
    quantization = Quantization.from_name(Path(checkpoint).name)
    samples = pd.read_parquet(calibration).tokens[: quantization.calibration_size].tolist()
    try:
        quantize(Path(model), Path(checkpoint), quantization, samples, Gptq(**options), device())
    except (RuntimeError, ValueError) as error:
        if not is_unquantizable(error):
            raise
        LOG.exception("%s cannot be quantized", quantization.name)
        record_unquantizable(Path(checkpoint), error)


def answer_requests(
    weights: str,
    requests: Sequence[str],
    batchings: Sequence[str],
    tokens_per_batch: int,
    threads: int,
    answers: Sequence[str],
) -> None:
    """One variant's answers to the requests of every stratum, on dense bf16 weights; none if it was not quantizable."""
    import pandas as pd
    import torch

    from stratalaw.engine import load_batching
    from stratalaw.evaluation.answers import answer, load_dense, load_tokenizer
    from stratalaw.quantization.unquantizable import why_unquantizable

    if reason := why_unquantizable(Path(weights)):
        LOG.warning("%s: no answers, since it could not be quantized: %s", weights, reason)
        for answered in answers:
            write_parquet(pd.DataFrame(), Path(answered))
        return
    use_no_network()
    torch.set_num_threads(threads)
    model, tokenizer = load_dense(Path(weights), device()), load_tokenizer(Path(weights))
    for requested, batched, answered in zip(requests, batchings, answers, strict=True):
        batching = load_batching(Path(batched))
        table = answer(model, tokenizer, pd.read_parquet(requested), batching, tokens_per_batch)
        write_parquet(table, Path(answered))


def score_items(
    evaluation: Mapping[str, Any],
    requests: Sequence[str],
    documents: Sequence[str],
    answers: Sequence[str],
    scores: Sequence[str],
    accuracies: Sequence[str],
) -> None:
    """What lm-eval's metrics say of the answers: scores of items, and the accuracy of each benchmark.

    A variant that could not be quantized has no answers, and no scores.
    """
    import pandas as pd

    from stratalaw.evaluation.documents import replayed_documents
    from stratalaw.evaluation.harness import item_scores
    from stratalaw.study import Tasks

    use_no_network()
    files = zip(requests, documents, answers, scores, accuracies, strict=True)
    for requested, kept, answered, scored, averaged in files:
        given = pd.read_parquet(answered)
        if given.empty:
            write_parquet(given, Path(scored))
            write_json({}, Path(averaged))
            continue
        with replayed_documents(pd.read_parquet(kept)):
            table = item_scores(pd.read_parquet(requested), given, Tasks(**evaluation), Path(scored).stem)
        write_parquet(table, Path(scored))
        write_json(table.groupby("task", sort=False).score.mean().to_dict(), Path(averaged))


def build_observations(
    study: Mapping[str, Any],
    models: Sequence[str],
    checkpoints: Sequence[str],
    scores: Sequence[str],
    csv: str,
    parquet: str,
    items: str,
    captions: Sequence[str],
) -> None:
    """The observations table of a study, and the scores of all items in one table; unquantizable variants have none."""
    import pandas as pd

    from stratalaw.models.folder import AUDIT, model_size
    from stratalaw.observations.table import CAPTION, observe
    from stratalaw.quantization.unquantizable import why_unquantizable
    from stratalaw.study import Study

    sizes = {Path(folder).name: model_size(Path(folder)) for folder in models}
    audits = {
        (folder.parent.name, folder.name): json.loads((folder / AUDIT).read_text())
        for folder in map(Path, checkpoints)
        if not why_unquantizable(folder)
    }
    tables = (
        pd.read_parquet(path).assign(model=path.parts[-3], variant=path.parts[-2], stratum=path.stem)
        for path in map(Path, scores)
    )
    scored = pd.concat((table for table in tables if not table.empty), ignore_index=True)
    table = observe(Study(**study), sizes, audits, scored)
    write_parquet(scored.astype(dict.fromkeys(("model", "variant", "stratum", "task"), "category")), Path(items))
    write_parquet(table, Path(parquet))
    write_csv(table, Path(csv))
    write_captions({"observations": CAPTION}, captions)


def report_coverage(
    study: Mapping[str, Any], observations: str, coverage: str, failures: str, captions: Sequence[str]
) -> None:
    """Which variants of a study were observed, and which jobs failed in this folder, as in ``stratalaw status``."""
    import pandas as pd

    from stratalaw.jobs import status
    from stratalaw.observations import coverage as observed
    from stratalaw.study import Study

    named = Study(**study)
    write_csv(status.failures_table(status.status_of(named)), Path(failures))
    write_csv(observed.coverage(named, pd.read_parquet(observations)), Path(coverage))
    write_captions({"coverage": observed.CAPTION, "failures": status.CAPTION}, captions)


def measure_damage(models: Sequence[str], items: str, damage: str, captions: Sequence[str]) -> None:
    """Each variant beside its original, paired by item, with what the weights of both take."""
    import pandas as pd

    from stratalaw.damage.memory import weight_bytes
    from stratalaw.damage.table import CAPTION, DIGITS, damage_of_study

    scored = pd.read_parquet(items)
    folders = {Path(folder).name: Path(folder) for folder in models}
    variants = scored[["model", "variant"]].drop_duplicates().itertuples(index=False)
    sizes = {(model, variant): weight_bytes(folders[model], variant) for model, variant in variants}
    write_csv(damage_of_study(scored, sizes), Path(damage), DIGITS)
    write_captions({"damage": CAPTION}, captions)


def fit_laws(
    study: Mapping[str, Any],
    observations: str,
    items: str,
    coverage: str,
    laws: str,
    tables: Mapping[str, str],
    captions: Sequence[str],
) -> None:
    """The laws of a study: everything as JSON, and ``tables`` to read (see ``laws.tables``).

    The first notes say which variants are missing. A table that supports no law is no failure: what is said is why.
    """
    from dataclasses import replace

    import pandas as pd

    from stratalaw.laws.analysis import Analysis, analyse
    from stratalaw.laws.fit import FitError
    from stratalaw.laws.tables import captions as captions_of
    from stratalaw.laws.tables import write_tables
    from stratalaw.observations.coverage import missing_variants
    from stratalaw.study import Study
    from stratalaw.study.description import describe_study

    try:
        analysis = analyse(pd.read_parquet(observations), items=pd.read_parquet(items))
    except FitError as error:
        analysis = Analysis.without_laws(str(error))
    analysis = replace(analysis, notes=[*missing_variants(pd.read_csv(coverage)), *analysis.notes])
    write_tables(analysis, {name: Path(path) for name, path in tables.items()})
    analysis.write(Path(laws))
    write_captions(captions_of(analysis, describe_study(Study(**study))), captions)


def plot_figures(
    study: Mapping[str, Any], observations: str, laws: str, figures: Sequence[str], captions: Sequence[str]
) -> None:
    """Every figure of a study, in the files named after them (``accuracy.svg`` and so on)."""
    import pandas as pd

    from stratalaw.laws.analysis import Analysis
    from stratalaw.report.figures import captions_of, plot_laws, plot_observations, save
    from stratalaw.study import Study
    from stratalaw.study.description import describe_study

    table, analysis = pd.read_parquet(observations), Analysis.read(Path(laws))
    plotted = plot_observations(table) | plot_laws(table, analysis)
    for path in map(Path, figures):
        save(plotted[path.stem], path)
    write_captions(captions_of(describe_study(Study(**study))), captions)


def write_explorer(
    study: Mapping[str, Any], observations: str, laws: str, explorer: str, captions: Sequence[str]
) -> None:
    """The interactive page: predictions of the laws, and the observations."""
    import pandas as pd

    from stratalaw.laws.analysis import Analysis
    from stratalaw.report.explorer import CAPTION, explorer_page
    from stratalaw.study import Study

    page = explorer_page(Study(**study).name, pd.read_parquet(observations), Analysis.read(Path(laws)))
    write_text(page, Path(explorer))
    write_captions({"explorer": CAPTION}, captions)


def write_summary(study: Mapping[str, Any], observations: str, damage: str, laws: str, summary: str) -> None:
    """What was run and what came out, as the report's landing page says it."""
    import pandas as pd

    from stratalaw.laws.analysis import Analysis
    from stratalaw.report.summary import summarize
    from stratalaw.study import Study

    table = pd.read_parquet(observations)
    text = summarize(Study(**study), table, pd.read_csv(damage), Analysis.read(Path(laws)))
    write_text(text, Path(summary))
