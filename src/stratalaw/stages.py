"""The stages of the workflow, in the order of the data: each reads files, calls the library, and writes files.

Heavy libraries are imported by the stage that needs them. Paths and options come as text and plain values, so that a
warm worker can be asked for them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from stratalaw.files import appears_whole

LOG = logging.getLogger(__name__)


def write_table(table, path: str) -> None:
    with appears_whole(Path(path)) as unfinished:
        table.to_parquet(unfinished)


def write_json(content, path: str) -> None:
    with appears_whole(Path(path)) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")


def write_csv(table, path: str, **options) -> None:
    with appears_whole(Path(path)) as unfinished:
        table.to_csv(unfinished, index=False, **options)


def device() -> str:
    """Where models run on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_no_network() -> None:
    """Have the libraries fail at once rather than ask the Hub: all that a job on a GPU needs is on the disk."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True


def provide_model(source: str, revision: str | None, downloads: str, model: str) -> None:
    """A model's folder, whole and checked, with the hashes of its files: copied, or fetched if it has a revision."""
    if revision is None:
        from stratalaw.models import copy_model

        copy_model(Path(source), Path(model))
    else:
        from stratalaw.downloads import Repository, download_model

        download_model(Repository(source, commit=revision), Path(model), Path(downloads))


def fetch_corpus(dataset: str, revision: str, file: str, corpus: str) -> None:
    """The calibration corpus, from a data set of the Hub."""
    from stratalaw.downloads import Repository, download_file

    download_file(Repository(dataset, "dataset", revision), file, Path(corpus))


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

    from stratalaw.calibration import read_corpus, sample
    from stratalaw.decontamination import Overlap, item_texts

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    size = {"samples": samples, "tokens": tokens, "seed": seed}
    try:
        texts = read_corpus(Path(corpus))
        if overlap_words is None:
            table = sample(texts, tokenizer.encode, **size)
        else:
            asked = (
                argument for path in requests for argument in pd.read_parquet(path, columns=["arguments"]).arguments
            )
            overlap = Overlap(item_texts(asked), overlap_words)
            table = sample(texts, tokenizer.encode, **size, is_allowed=overlap.is_free)
            table.attrs["overlapping_texts"] = overlap.found
            LOG.info("%d texts passed over that share %d words with a benchmark item", overlap.found, overlap_words)
    except ValueError as error:
        raise ValueError(f"{corpus}: {error}") from None
    write_table(table, drawn)


def quantize(model: str, calibration: str, options: Mapping, checkpoint: str) -> None:
    """One GPTQ checkpoint, with its audit; the folder's name says which variant.

    Of a variant that cannot be quantized the reason is recorded in its place (see ``stratalaw.unquantizable``).
    """
    import pandas as pd

    from stratalaw.models import verify_model
    from stratalaw.quantization import quantize
    from stratalaw.study import Gptq
    from stratalaw.unquantizable import is_unquantizable, record_unquantizable
    from stratalaw.variants import Quantization

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


def record_requests(model: str, evaluation: Mapping, requests: Sequence[str], plans: Sequence[str]) -> None:
    """Every request that lm-eval makes, tokenized, one table for each stratum and named after it; and their plans."""
    from transformers import AutoTokenizer

    from stratalaw.evaluation import context_length, plan_requests
    from stratalaw.harness import record_requests
    from stratalaw.scoring import save_plan
    from stratalaw.study import Tasks

    tokenizer, length, options = (
        AutoTokenizer.from_pretrained(model, trust_remote_code=False),
        context_length(Path(model)),
        Tasks(**evaluation),
    )
    for table, planned in zip(requests, plans, strict=True):
        stratum = Path(table).stem
        recorded = record_requests(tokenizer, length, options, stratum)
        plan = plan_requests(recorded, length, options.tokens_a_batch)
        LOG.info("%s: %d of %d tokens run", stratum, plan.tokens, plan.plain_tokens)
        write_table(recorded, table)
        with appears_whole(Path(planned)) as unfinished:
            save_plan(plan, unfinished)


def answer_requests(
    weights: str,
    requests: Sequence[str],
    plans: Sequence[str],
    tokens_a_batch: int,
    threads: int,
    answers: Sequence[str],
) -> None:
    """One variant's answers to the requests of every stratum, on dense bf16 weights; none if it was not quantizable."""
    import pandas as pd
    import torch

    from stratalaw.evaluation import answer, load_dense, load_tokenizer
    from stratalaw.scoring import load_plan
    from stratalaw.unquantizable import why_unquantizable

    if reason := why_unquantizable(Path(weights)):
        LOG.warning("%s: no answers, since it could not be quantized: %s", weights, reason)
        for answered in answers:
            write_table(pd.DataFrame(), answered)
        return
    use_no_network()
    torch.set_num_threads(threads)
    model, tokenizer = load_dense(Path(weights), device()), load_tokenizer(Path(weights))
    for requested, planned, answered in zip(requests, plans, answers, strict=True):
        plan = load_plan(Path(planned))
        write_table(answer(model, tokenizer, pd.read_parquet(requested), plan, tokens_a_batch), answered)


def score_items(
    evaluation: Mapping, requests: Sequence[str], answers: Sequence[str], scores: Sequence[str], summary: Sequence[str]
) -> None:
    """What lm-eval's own metrics say of the answers: scores of items, and the accuracy of each benchmark.

    A variant that could not be quantized has no answers, and no scores.
    """
    import pandas as pd

    from stratalaw.harness import item_scores
    from stratalaw.study import Tasks

    for files in zip(requests, answers, scores, summary, strict=True):
        requested, answered, scored, summarized = files
        given = pd.read_parquet(answered)
        if given.empty:
            write_table(given, scored)
            write_json({}, summarized)
            continue
        table = item_scores(pd.read_parquet(requested), given, Tasks(**evaluation), Path(scored).stem)
        write_table(table, scored)
        write_json(table.groupby("task", sort=False).score.mean().to_dict(), summarized)


def build_observations(
    study: str,
    models: Sequence[str],
    checkpoints: Sequence[str],
    scores: Sequence[str],
    csv: str,
    parquet: str,
    items: str,
) -> None:
    """The observations table of a study, and the scores of all items in one table; unquantizable variants have none."""
    import pandas as pd

    from stratalaw.models import model_size
    from stratalaw.observations import observe
    from stratalaw.quantization import AUDIT
    from stratalaw.study import read_study
    from stratalaw.unquantizable import why_unquantizable

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
    table = observe(read_study(Path(study)), sizes, audits, scored)
    write_table(scored.astype(dict.fromkeys(("model", "variant", "stratum", "task"), "category")), items)
    write_table(table, parquet)
    write_csv(table, csv)


def report_coverage(study: str, observations: str, coverage: str, failures: str) -> None:
    """What of a study was observed, and its jobs in this folder that failed, as ``stratalaw status`` knows them."""
    import pandas as pd

    from stratalaw.coverage import coverage as coverage_of
    from stratalaw.status import failures_table, status_of
    from stratalaw.study import read_study

    named = read_study(Path(study))
    write_csv(failures_table(status_of(named, Path())), failures)
    write_csv(coverage_of(named, pd.read_parquet(observations)), coverage)


def fit_laws(observations: str, items: str, coverage: str, laws: str, tables: Mapping[str, str]) -> None:
    """The laws of a study: everything as JSON, and ``tables`` (exponents, forms, verdicts) to read.

    The first notes say which variants are missing.
    """
    from dataclasses import replace

    import pandas as pd

    from stratalaw.coverage import missing_variants
    from stratalaw.laws.analysis import analyse, exponents_table

    analysis = analyse(pd.read_parquet(observations), items=pd.read_parquet(items))
    analysis = replace(analysis, notes=[*missing_variants(pd.read_csv(coverage)), *analysis.notes])
    readable = {"exponents": exponents_table(analysis), "forms": analysis.forms, "verdicts": analysis.verdicts}
    for name, path in tables.items():
        write_csv(readable[name], path, float_format="%.4g")
    write_json(analysis.to_dict(), laws)


def draw_figures(observations: str, laws: str, figures: Sequence[str]) -> None:
    """Every figure of a study, in the files named after them (``accuracy.svg`` and so on)."""
    import pandas as pd

    from stratalaw.figures import draw_laws, draw_observations, save
    from stratalaw.laws.analysis import one_family_fitted

    table = pd.read_parquet(observations)
    drawn = draw_observations(table) | draw_laws(one_family_fitted(table), read_analysis(laws))
    for path in map(Path, figures):
        save(drawn[path.stem], path)


def summarize(study: str, observations: str, laws: str, summary: str) -> None:
    """What was run and what came out, as the report's landing page says it."""
    import pandas as pd

    from stratalaw.laws.analysis import one_family_fitted
    from stratalaw.study import read_study
    from stratalaw.summary import summarize

    table = one_family_fitted(pd.read_parquet(observations))
    text = summarize(read_study(Path(study)), table, read_analysis(laws))
    with appears_whole(Path(summary)) as unfinished:
        unfinished.write_text(text)


def write_explorer(study: str, observations: str, laws: str, explorer: str) -> None:
    """The page that asks the laws and looks into the observations."""
    import pandas as pd

    from stratalaw.explorer import explorer_page
    from stratalaw.study import read_study

    page = explorer_page(read_study(Path(study)).name, pd.read_parquet(observations), read_analysis(laws))
    with appears_whole(Path(explorer)) as unfinished:
        unfinished.write_text(page)


def read_analysis(laws: str):
    from stratalaw.laws.analysis import Analysis

    return Analysis.from_dict(json.loads(Path(laws).read_text()))
