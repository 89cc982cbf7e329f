"""The stages of the workflow, in the order of the data: each reads files, calls the library, and writes files.

Heavy libraries are imported by the stage that needs them. Paths and options come as text and plain values, so that a
warm worker can be asked for them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratalaw.files import appears_whole, sha256, write_csv, write_json, write_text
from stratalaw.seals import KEY, Seal, SealError, digest_of, read_table, seal_file, seal_of, write_table

if TYPE_CHECKING:  # pandas takes half a second to load
    import pandas as pd

    from stratalaw.evaluation.scoring import Scorer

LOG = logging.getLogger(__name__)
MOST_SCORERS = 8  # strata whose tasks a process keeps: those of a model, and of one that was asked something else
KEPT_SCORERS: dict[tuple[str, ...], Scorer] = {}


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
    from stratalaw.models.empty import check_weights

    if revision is None:
        from stratalaw.models.folder import copy_model

        check_weights(Path(source))
        copy_model(Path(source), Path(model))
    else:
        from stratalaw.models.hub import Repository, download_model

        download_model(Repository(source, commit=revision), Path(model), Path(downloads))
        check_weights(Path(model))


def fetch_corpus(dataset: str, revision: str, file: str, corpus: str, record: str) -> None:
    """The calibration corpus, from a data set of the Hub, and the record of its hash."""
    from stratalaw.calibration.samples import record_corpus
    from stratalaw.models.hub import Repository, download_file

    download_file(Repository(dataset, "dataset", revision), file, Path(corpus))
    record_corpus(Path(corpus), Path(record))


def record_requests(
    model: str,
    evaluation: Mapping[str, Any],
    scored_by: Mapping[str, Mapping[str, str | None]],
    requests: Sequence[str],
    batchings: Sequence[str],
    documents: Sequence[str],
) -> None:
    """Every request that lm-eval makes, tokenized, one table for each stratum and named after it.

    Beside it are its batches, and the documents that the metrics need: no later stage asks the Hub or a cache.
    ``scored_by``: the metric and the filter of each task, which must give an accuracy.
    """
    from transformers import AutoTokenizer

    from stratalaw.engine import save_batching
    from stratalaw.evaluation import harness
    from stratalaw.evaluation.answers import batch_requests, context_length
    from stratalaw.evaluation.documents import recorded_documents
    from stratalaw.models.folder import manifest_seal, verify_beside_weights
    from stratalaw.study import Tasks

    verify_beside_weights(Path(model))
    made_from = {"model": manifest_seal(Path(model)).digest}
    strata = {
        stratum: [benchmark | scored_by[benchmark["task"]] for benchmark in benchmarks]
        for stratum, benchmarks in evaluation["strata"].items()
    }
    tokenizer, length, options = (
        AutoTokenizer.from_pretrained(model, trust_remote_code=False),
        context_length(Path(model)),
        Tasks(**{**evaluation, "strata": strata}),
    )
    for table, batched, kept in zip(requests, batchings, documents, strict=True):
        stratum = Path(table).stem
        with recorded_documents() as loaded:
            recorded = harness.record_requests(tokenizer, length, options, stratum)
        batching = batch_requests(recorded, length, options.tokens_per_batch)
        LOG.info("%s: %d of %d tokens run", stratum, batching.tokens, batching.plain_tokens)
        asked = {"requests": write_table(recorded, Path(table), Seal("requests", {"stratum": stratum}, made_from))}
        write_table(loaded.table(), Path(kept), Seal("documents", {"stratum": stratum}, asked))
        with appears_whole(Path(batched)) as unfinished:
            save_batching(batching, unfinished, {KEY: str(Seal("batches", {"stratum": stratum}, asked))})
            seal_file(unfinished)


def draw_calibration(
    model: str,
    corpora: Mapping[str, str],
    requests: Sequence[str],
    samples: int,
    tokens: int,
    overlap_words: int | None,
    drawn: str,
    record: str | None = None,
    parts: Mapping[str, float] | None = None,
) -> None:
    """A draw of calibration samples as token ids; its metadata count the texts that overlap with the requests.

    ``corpora``: files by the names that the seal gives them; ``record``: of the corpus, if it was fetched; ``parts``:
    of each corpus in a mixture. The name of ``drawn`` says which seed, and which mixture.
    """
    from transformers import AutoTokenizer

    from stratalaw.calibration.overlap import Overlap, item_texts
    from stratalaw.calibration.samples import (
        CorpusError,
        about_draw,
        check_recorded,
        counts_of,
        digest_of_mixture,
        interleaved,
        read_corpus,
        sample,
    )
    from stratalaw.models.folder import manifest_seal, verify_beside_weights
    from stratalaw.study.variants import seed_and_mixture

    verify_beside_weights(Path(model))
    seed, mixture = seed_and_mixture(Path(drawn).stem)
    made_from = {"model": manifest_seal(Path(model)).digest}
    made_from |= {name: sha256(Path(file)) for name, file in corpora.items()}
    if parts is not None:
        made_from |= {"mixture": digest_of_mixture(parts)}
    if record is not None:
        check_recorded(Path(corpora["corpus"]), Path(record))
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    overlap = None
    if overlap_words is not None:
        asked = (
            argument
            for path in map(Path, requests)
            for argument in read_table(path, "requests", {"stratum": path.stem}, columns=["arguments"])[0].arguments
        )
        overlap = Overlap(item_texts(asked), overlap_words)
    shares = list((parts or {}).values())
    draws = []
    for file, count in zip(corpora.values(), counts_of(shares, samples) if shares else [samples], strict=True):
        texts = read_corpus(Path(file))
        try:
            draws.append(
                sample(
                    texts,
                    tokenizer.encode,
                    samples=count,
                    tokens=tokens,
                    seed=seed,
                    is_allowed=overlap.is_free if overlap else lambda text: True,
                )
            )
        except CorpusError as error:
            raise CorpusError(f"{file}: {error}") from None
    table = interleaved(draws, shares) if shares else draws[0]
    if overlap:
        table.attrs["overlapping_texts"] = overlap.overlapping
        LOG.info("%d texts skipped that share %d words with a benchmark item", overlap.overlapping, overlap_words)
    write_table(table, Path(drawn), Seal("calibration", about_draw(seed, mixture), made_from))


def quantize_model(model: str, calibration: str, options: Mapping[str, Any], checkpoint: str, gpus: int = 1) -> None:
    """One GPTQ checkpoint, with its audit; the folder's name says which variant, ``gpus`` how many GPUs share the work.

    Among the ``options`` of a mixed variant is its ``allocation``, by which its name must be the folder's.

    If a variant cannot be quantized, the reason is recorded in its place (see ``quantization.unquantizable``).
    """
    from stratalaw.calibration.samples import about_draw
    from stratalaw.models.folder import manifest_seal, verify_model
    from stratalaw.quantization.gptq import quantize
    from stratalaw.quantization.unquantizable import is_unquantizable, record_unquantizable
    from stratalaw.study import Gptq
    from stratalaw.study.variants import Quantization, calibration_of

    use_no_network()
    variant, options = Path(checkpoint).name, dict(options)
    if (allocation := options.pop("allocation", None)) is None:
        quantization = Quantization.from_name(variant)
    else:
        quantization = Quantization.from_allocation(allocation, *calibration_of(variant))
    if quantization.name != variant:
        raise ValueError(f"{checkpoint}: the allocation is that of {quantization.name}")
    of_model = {"model": manifest_seal(Path(model)).digest}
    about = about_draw(quantization.calibration_seed, quantization.mixture)
    drawn, seal = read_table(Path(calibration), "calibration", about, of_model)
    samples = drawn.tokens[: quantization.calibration_size].tolist()
    made_from = of_model | {"calibration": seal.digest}
    with ThreadPoolExecutor(1) as beside:
        # The hashes of a large model take seconds: they are computed while it is quantized, and nothing counts before.
        verified = beside.submit(verify_model, Path(model))
        try:
            quantize(
                Path(model),
                Path(checkpoint),
                quantization,
                samples,
                Gptq(**options),
                device(),
                gpus,
                made_from,
                before_it_counts=verified.result,
            )
        except Exception as error:
            verified.result()  # what a damaged file leads to says nothing of GPTQ
            if not isinstance(error, RuntimeError | ValueError) or not is_unquantizable(error):
                raise
            LOG.exception("%s cannot be quantized", quantization.name)
            record_unquantizable(Path(checkpoint), error, made_from)


def convert_checkpoint(
    model: str, source: str, revision: str | None, file: str | None, downloads: str, conversion: str
) -> None:
    """The dense weights of a checkpoint that exists, with an audit; the folder's name says which variant.

    It is fetched if it has a revision: ``file`` of the repository, or its safetensors.
    """
    from tempfile import TemporaryDirectory

    from stratalaw.models.folder import manifest_seal, verify_model
    from stratalaw.models.hub import Repository, download_file, download_model
    from stratalaw.quantization.existing import convert

    verify_model(Path(model))
    made_from = {"model": manifest_seal(Path(model)).digest}
    if revision is None:
        convert(Path(source), Path(model), Path(conversion), made_from)
        return
    repository = Repository(source, commit=revision)
    name = f"{source}@{revision}" + (f"/{file}" if file else "")
    Path(downloads).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=downloads) as scratch:
        fetched = Path(scratch) / (Path(file).name if file else "checkpoint")
        if file:
            download_file(repository, file, fetched)
        else:
            download_model(repository, fetched, Path(downloads))
        convert(fetched, Path(model), Path(conversion), made_from, name)


def answer_requests(
    model: str,
    weights: str,
    requests: Sequence[str],
    batchings: Sequence[str],
    tokens_per_batch: int,
    threads: int,
    answers: Sequence[str],
    in_part: Mapping[str, Any] | None = None,
    originals: Sequence[str] = (),
    documents: Sequence[str] = (),
) -> None:
    """One variant's answers to the requests of every stratum, on dense bf16 weights; none if it was not quantizable.

    ``in_part``: where items are asked only until the difference from the original is known well enough, ``goal``,
    ``evaluation`` and ``tasks`` of ``answer_in_part``, for which ``originals`` and ``documents`` are.
    """
    import pandas as pd
    import torch

    from stratalaw.engine import load_batching
    from stratalaw.evaluation.answers import answer, batch_requests, context_length, load_dense, load_tokenizer
    from stratalaw.layout import Results
    from stratalaw.models.folder import manifest_seal
    from stratalaw.quantization.gptq import checkpoint_seal
    from stratalaw.quantization.unquantizable import why_unquantizable

    of_model = {"model": manifest_seal(Path(model)).digest}
    is_original = Path(weights) == Path(model)
    used = manifest_seal(Path(model)) if is_original else checkpoint_seal(Path(weights), of_model)

    def seal_made_from(asked: Seal, answered: str) -> Seal:
        return Seal("answers", about(Path(answered)), {"weights": used.digest, "requests": asked.digest})

    if not is_original and (reason := why_unquantizable(Path(weights))):
        LOG.warning("%s: no answers, since it could not be quantized: %s", weights, reason)
        for requested, answered in zip(requests, answers, strict=True):
            write_table(pd.DataFrame(), Path(answered), seal_made_from(seal_of(Path(requested)), answered))
        return
    use_no_network()
    torch.set_num_threads(threads)
    dense, tokenizer = load_dense(Path(weights), device()), load_tokenizer(Path(weights))

    def answer_some(rows: pd.DataFrame) -> pd.DataFrame:
        placed = rows.reset_index(drop=True)  # batches count the requests from 0
        batching = batch_requests(placed, context_length(Path(model)), tokens_per_batch)
        return answer(dense, tokenizer, placed, batching, tokens_per_batch).set_axis(rows.index)

    for number, (requested, batched, answered) in enumerate(zip(requests, batchings, answers, strict=True)):
        what = {"stratum": Path(answered).stem}
        asked, seal = read_table(Path(requested), "requests", what, of_model)
        seal_of(Path(batched), "batches", what, {"requests": seal.digest})
        sealed = seal_made_from(seal, answered)
        if in_part is None:
            table = answer(dense, tokenizer, asked, load_batching(Path(batched)), tokens_per_batch)
        else:
            blocks = Results(Path(answered).parents[3]).blocks(**about(Path(answered)))
            table, original = answer_in_part(
                answer_some,
                asked,
                sealed,
                **in_part,
                original=originals[number],
                documents=documents[number],
                blocks=blocks,
            )
            sealed = replace(sealed, made_from={**sealed.made_from, "original": original})
        write_table(table, Path(answered), sealed)


def answer_in_part(
    answer: Callable[[pd.DataFrame], pd.DataFrame],
    requests: pd.DataFrame,
    seal: Seal,
    evaluation: Mapping[str, Any],
    tasks: str,
    goal: float,
    original: str,
    documents: str,
    blocks: Path,
) -> tuple[pd.DataFrame, str]:
    """Answers to as many items of a stratum as its mean difference from the original takes (see ``evaluation.blocks``).

    Args:
        answer: gives the answers to some requests.
        requests: of the stratum.
        seal: of the answers.
        evaluation, tasks: as in ``score_items``.
        goal: the standard error.
        original: its scores.
        documents: what metrics need.
        blocks: where all answers are kept after each block. Those that are there from an earlier run, of the same
            weights to the same requests, are taken over.

    Returns:
        The answers, and the digest of the original's scores.
    """
    from stratalaw.evaluation.blocks import ITEM, answer_in_blocks
    from stratalaw.sampling.difference import Difference, differences_of
    from stratalaw.study.variants import BASELINE_NAME

    asked = seal.made_from["requests"]
    of_original, seal_of_original = read_table(
        Path(original), "scores", {**seal.about, "variant": BASELINE_NAME}, {"requests": asked}
    )
    scorer = kept_scorer(evaluation, tasks, seal.about["stratum"], requests, asked, documents)
    kept = replace(seal, kind="blocks")
    earlier = None
    if blocks.exists():
        try:
            earlier = read_table(blocks, kept.kind, kept.about, kept.made_from)[0]
        except SealError as error:
            LOG.warning("%s; items are asked anew", error)

    def differences(answers: pd.DataFrame) -> dict[str, Difference]:
        return differences_of(of_original, scorer.scores(answers))

    def keep(answers: pd.DataFrame) -> None:
        blocks.parent.mkdir(parents=True, exist_ok=True)
        write_table(answers, blocks, kept)

    table = answer_in_blocks(answer, requests, scorer.benchmark_of(), earlier, differences, goal, keep)
    some, items = (len(rows[ITEM].drop_duplicates()) for rows in (requests.loc[table.index], requests))
    LOG.info("%s: %d of %d items asked", seal.about["stratum"], some, items)
    return table, seal_of_original.digest


def kept_scorer(
    evaluation: Mapping[str, Any], tasks: str, stratum: str, requests: pd.DataFrame, digest: str, documents: str
) -> Scorer:
    """The scorer of a stratum, kept for other variants, and other models, as long as ``tasks``, documents, and requests
    but for their tokens are the same.

    ``digest``: that of the requests; ``documents``: the file that was recorded with them.
    """
    from stratalaw.evaluation.documents import replayed_documents
    from stratalaw.evaluation.scoring import Scorer
    from stratalaw.study import Tasks

    recorded, _ = read_table(Path(documents), "documents", {"stratum": stratum}, {"requests": digest})
    asked = requests.drop(columns=["context", "continuation"])
    made_of = (json.dumps(evaluation), tasks, stratum, _digest_of_rows(asked), _digest_of_rows(recorded))
    if made_of not in KEPT_SCORERS:
        with replayed_documents(recorded):
            KEPT_SCORERS[made_of] = Scorer(requests, Tasks(**evaluation), stratum)
    scorer = KEPT_SCORERS[made_of] = KEPT_SCORERS.pop(made_of)  # the last to go
    while len(KEPT_SCORERS) > MOST_SCORERS:
        del KEPT_SCORERS[next(iter(KEPT_SCORERS))]
    return scorer


def _digest_of_rows(table: pd.DataFrame) -> str:
    """A digest of a table's rows and index, and of the names of its columns."""
    import pandas as pd

    named = hashlib.sha256(json.dumps(list(table.columns)).encode())
    named.update(pd.util.hash_pandas_object(table).to_numpy().tobytes())
    return named.hexdigest()


def about(path: Path) -> dict[str, str]:
    """What a table of answers or scores is about, by its path: ``MODEL/VARIANT/STRATUM.parquet``."""
    return {"model": path.parts[-3], "variant": path.parts[-2], "stratum": path.stem}


def score_items(
    evaluation: Mapping[str, Any],
    requests: Sequence[str],
    documents: Sequence[str],
    answers: Sequence[str],
    scores: Sequence[str],
    accuracies: Sequence[str],
    tasks: str,
    with_gaps: bool = False,
) -> None:
    """What lm-eval's metrics say of the answers: scores of items, and the accuracy of each benchmark.

    A variant that could not be quantized has no answers, and no scores. The tasks of a stratum are kept for other
    variants that this process scores, as long as their files have the same digest: ``tasks``. ``with_gaps``: see
    ``Scorer.scores``.
    """
    use_no_network()
    for requested, kept, answered, scored, averaged in zip(
        requests, documents, answers, scores, accuracies, strict=True
    ):
        what = about(Path(scored))
        of_stratum = {"stratum": what["stratum"]}
        asked, seal_of_requests = read_table(Path(requested), "requests", of_stratum)
        made_from = {"requests": seal_of_requests.digest}
        given, seal_of_answers = read_table(Path(answered), "answers", what, made_from)
        seal = Seal("scores", what, made_from | {"answers": seal_of_answers.digest})
        if given.empty:
            write_table(given, Path(scored), seal)
            write_json({}, Path(averaged))
            continue
        scorer = kept_scorer(evaluation, tasks, what["stratum"], asked, seal_of_requests.digest, kept)
        table = scorer.scores(given, with_gaps)
        write_table(table, Path(scored), seal)
        write_json(table.groupby("task", sort=False).score.mean().to_dict(), Path(averaged))


def table_of_study(path: str) -> tuple[pd.DataFrame, Seal]:
    """A table of a study by its path, ``STUDY/KIND.parquet``, and its seal."""
    return read_table(Path(path), Path(path).stem, {"study": Path(path).parent.name})


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

    from stratalaw.damage.table import ASKED_IN_PART
    from stratalaw.models.folder import manifest_seal, model_size
    from stratalaw.observations.table import CAPTION, observe
    from stratalaw.quantization.gptq import read_audit
    from stratalaw.quantization.unquantizable import why_unquantizable
    from stratalaw.study import Study

    sizes = {Path(folder).name: model_size(Path(folder)) for folder in models}
    of_models = {Path(folder).name: {"model": manifest_seal(Path(folder)).digest} for folder in models}
    audits = {
        (folder.parent.name, folder.name): read_audit(folder, of_models[folder.parent.name])
        for folder in map(Path, checkpoints)
        if not why_unquantizable(folder)
    }
    tables, seals = zip(*(read_table(path, "scores", about(path)) for path in map(Path, scores)), strict=True)
    named = (table.assign(**about(Path(path))) for path, table in zip(scores, tables, strict=True))
    scored = pd.concat((table for table in named if not table.empty), ignore_index=True)
    table = observe(Study(**study), sizes, audits, scored)
    what = {"study": Study(**study).name}
    made_from = {"scores": digest_of(seal.digest for seal in seals)}
    categories = scored.astype(dict.fromkeys(("model", "variant", "stratum", "task"), "category"))
    if Study(**study).evaluation.paired_stderr is not None:
        categories.attrs[ASKED_IN_PART] = True
    write_table(categories, Path(items), Seal("items", what, made_from))
    write_table(table, Path(parquet), Seal("observations", what, made_from))
    write_csv(table, Path(csv))
    write_captions({"observations": CAPTION}, captions)


def report_coverage(
    study: Mapping[str, Any], observations: str, coverage: str, failures: str, captions: Sequence[str]
) -> None:
    """Which variants of a study were observed, and which jobs failed in this folder, as in ``stratalaw status``."""
    from stratalaw.jobs import status
    from stratalaw.observations import coverage as observed
    from stratalaw.study import Study

    named = Study(**study)
    write_csv(status.failures_table(status.status_of(named)), Path(failures))
    write_csv(observed.coverage(named, table_of_study(observations)[0]), Path(coverage))
    write_captions({"coverage": observed.CAPTION, "failures": status.CAPTION}, captions)


def measure_damage(
    models: Sequence[str], mixed: Sequence[str], items: str, csv: str, parquet: str, captions: Sequence[str]
) -> None:
    """Each variant beside its original, paired by item, with what the weights of both take; ``mixed``: the checkpoints
    of variants whose matrices have bits of their own."""
    from stratalaw.damage.memory import weight_bytes
    from stratalaw.damage.table import CAPTION, DIGITS, damage_of_study

    scored, seal_of_items = table_of_study(items)
    sizes = {
        (folder.name, variant): size
        for folder in map(Path, models)
        for variant, size in weight_bytes(
            folder,
            scored.variant[scored.model == folder.name].unique(),
            {path.name: path for path in map(Path, mixed) if path.parent.name == folder.name},
        ).items()
    }
    table = damage_of_study(scored, sizes)
    seal = Seal("damage", {"study": Path(parquet).parent.name}, {"items": seal_of_items.digest})
    write_table(table, Path(parquet), seal)
    write_csv(table, Path(csv), DIGITS)
    write_captions({"damage": CAPTION}, captions)


def fit_laws(
    study: Mapping[str, Any],
    not_run: Sequence[Sequence[str]],
    observations: str,
    items: str,
    laws: str,
    tables: Mapping[str, str],
    captions: Sequence[str],
) -> None:
    """The laws of a study: everything as JSON, and ``tables`` to read (see ``laws.tables``).

    The first notes say which variants are missing; those in ``not_run``, by model and name, are predicted. A table that
    supports no law is no failure: what is said is why.
    """
    import pandas as pd

    from stratalaw.laws.analysis import Analysis, analyse
    from stratalaw.laws.fit import FitError
    from stratalaw.laws.tables import captions as captions_of
    from stratalaw.laws.tables import write_tables
    from stratalaw.laws.whole import predicted_note, whole_study
    from stratalaw.observations.coverage import coverage, missing_variants
    from stratalaw.observations.table import left_out_note, of_grids
    from stratalaw.study import Study
    from stratalaw.study.description import describe_study

    named, (table, seal) = Study(**study), table_of_study(observations)
    of_laws = of_grids(table)
    try:
        analysis = analyse(of_laws, items=table_of_study(items)[0])
    except FitError as error:
        analysis = Analysis.without_laws(str(error))
    variants = whole_study(of_laws, named, [(model, variant) for model, variant in not_run])
    if len(others := table.drop(of_laws.index)):
        variants = pd.concat([variants, whole_study(others)], ignore_index=True)
    notes = [*missing_variants(coverage(named, table)), *predicted_note(variants), *left_out_note(table)]
    analysis = replace(analysis, notes=[*notes, *analysis.notes], variants=variants)
    write_tables(analysis, {name: Path(path) for name, path in tables.items()})
    analysis.write(Path(laws), {"observations": seal.digest})
    write_captions(captions_of(analysis, describe_study(named)), captions)


def plot_figures(
    study: Mapping[str, Any], observations: str, damage: str, laws: str, figures: Sequence[str], captions: Sequence[str]
) -> None:
    """Every figure of a study, in the files named after them (``accuracy.svg`` and so on)."""

    from stratalaw.laws.analysis import Analysis
    from stratalaw.observations.table import of_grids
    from stratalaw.report.figures import captions_of, plot_laws, plot_observations, save
    from stratalaw.study import Study
    from stratalaw.study.description import describe_study

    table, analysis = of_grids(table_of_study(observations)[0]), Analysis.read(Path(laws))
    plotted = plot_observations(table, table_of_study(damage)[0]) | plot_laws(table, analysis)
    for path in map(Path, figures):
        save(plotted[path.stem], path)
    write_captions(captions_of(describe_study(Study(**study))), captions)


def write_pages(observations: str, damage: str, laws: str, coverage: str, failures: str, pages: Sequence[str]) -> None:
    """The tables of a study as pages, in the files named after them (``damage.html`` and so on)."""
    import pandas as pd

    from stratalaw.laws.analysis import Analysis
    from stratalaw.report.tables import pages as pages_of

    (table, seal), analysis = table_of_study(observations), Analysis.read(Path(laws))
    seen = [pd.read_csv(path) for path in (coverage, failures)]
    written = pages_of(seal.about["study"], table, table_of_study(damage)[0], analysis, *seen)
    for path in map(Path, pages):
        write_text(written[path.stem], path)


def write_explorer(
    study: Mapping[str, Any], observations: str, damage: str, laws: str, explorer: str, captions: Sequence[str]
) -> None:
    """The interactive page: what was lost, predictions of the laws, and the observations."""

    from stratalaw.laws.analysis import Analysis
    from stratalaw.observations.table import of_grids
    from stratalaw.report.explorer import CAPTION, explorer_page
    from stratalaw.study import Study

    table, (lost, _) = of_grids(table_of_study(observations)[0]), table_of_study(damage)
    page = explorer_page(Study(**study).name, table, lost, Analysis.read(Path(laws)))
    write_text(page, Path(explorer))
    write_captions({"explorer": CAPTION}, captions)


def write_summary(study: Mapping[str, Any], observations: str, damage: str, laws: str, summary: str) -> None:
    """What was run and what came out, as the report's landing page says it."""

    from stratalaw.laws.analysis import Analysis
    from stratalaw.observations.table import of_grids
    from stratalaw.report.summary import summarize
    from stratalaw.study import Study

    table = of_grids(table_of_study(observations)[0])
    text = summarize(Study(**study), table, table_of_study(damage)[0], Analysis.read(Path(laws)))
    write_text(text, Path(summary))
