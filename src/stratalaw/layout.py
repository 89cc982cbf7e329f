"""Where everything is under ``results/``, for the rules that make files and the library that reads them.

Names may be Snakemake's wildcards: ``Results().model("{model}")`` is ``results/models/{model}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stratalaw.study import Calibration
from stratalaw.study.variants import BASELINE_NAME, is_quantized_here

# Chapters of the report; its menu sorts them by their names. ``LAWS``: the one whose figures need laws.
LOST, ACCURACY, LAWS = "1. What was lost", "2. Accuracy", "3. Laws"
EXPLORER, OBSERVATIONS, COVERAGE = "4. Explorer", "5. Observations", "6. Coverage"
# By name, the chapter of the report's menu and the label of each figure of a study.
FIGURES: Mapping[str, tuple[str, str]] = {
    "damage": (LOST, "changes against the original"),
    "accuracy": (ACCURACY, "accuracy by bits"),
    "effects": (ACCURACY, "group and calibration size"),
    "predicted": (LAWS, "predicted against observed"),
    "residuals": (LAWS, "residuals against each factor"),
    "exponents": (LAWS, "exponents beside the paper's"),
    "intervals": (LAWS, "exponents by method"),
    "profiles": (LAWS, "likelihood profiles of the exponents"),
    "forms": (LAWS, "forms compared on held-out data"),
    "held_out": (LAWS, "predicted against observed on held-out sizes"),
}

# Tables of the stage ``laws``; ``laws.tables`` says what they hold.
LAW_TABLES = ("variants", "exponents", "models", "forms", "verdicts", "families", "needs")
# By name, the chapter and the label of each page with a table.
PAGES: Mapping[str, tuple[str, str]] = {
    "damage": (LOST, "all variants, and what each stratum kept"),
    "benchmarks": (LOST, "each variant on each benchmark"),
    "variants": (ACCURACY, "all variants, measured or predicted"),
    "exponents": (LAWS, "exponents"),
    "models": (LAWS, "exponents of each model"),
    "forms": (LAWS, "forms compared"),
    "verdicts": (LAWS, "verdicts on the paper's claims"),
    "families": (LAWS, "do exponents agree between families?"),
    "needs": (LAWS, "what would decide the open claims"),
    "observations": (OBSERVATIONS, "observations"),
    "coverage": (COVERAGE, "variants named and observed"),
    "failures": (COVERAGE, "jobs that failed"),
}
# The names of the report's captions by the stage that writes them; table, page and figure of one name share one.
CAPTIONS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observations",),
    "coverage": ("coverage", "failures"),
    "damage": ("damage",),
    "laws": LAW_TABLES,
    "figures": tuple(name for name in FIGURES if name not in ("damage", "exponents", "forms")),
    "explorer": ("explorer",),
}
# The files of a study by the stage that makes them.
OF_STUDY: Mapping[str, tuple[str, ...]] = {
    "observations": ("observations.csv", "observations.parquet", "items.parquet"),
    "coverage": ("coverage.csv", "failures.csv"),
    "damage": ("damage.csv", "damage.parquet"),
    "laws": ("laws.json", *(f"{name}.csv" for name in LAW_TABLES)),
    "figures": tuple(f"figures/{name}.{suffix}" for suffix in ("svg", "png") for name in FIGURES),
    "tables": tuple(f"tables/{name}.html" for name in PAGES),
    "explorer": ("explorer.html",),
    "summary": ("summary.rst",),
}


@dataclass(frozen=True)
class Results:
    """The folder of results; ``root``: where it is.

    ```
    models/MODEL/                              weights, tokenizer, manifest.json
    corpus/DATASET@COMMIT/FILE                 calibration text from the Hub
    requests/MODEL/STRATUM.parquet             what lm-eval asks, tokenized
    requests/MODEL/documents/STRATUM.parquet   what metrics need of the benchmarks' data sets
    requests/MODEL/STRATUM.batches.safetensors how the requests share their tokens
    calibration/MODEL/DRAW.parquet             calibration samples; DRAW is sSEED, or sSEED-MIXTURE
    checkpoints/MODEL/VARIANT/                 packed weights, audit.json
    conversions/MODEL/VARIANT/                 dense weights of an existing checkpoint, audit.json
    answers/MODEL/VARIANT/STRATUM.parquet      log-likelihoods and generated texts
    blocks/MODEL/VARIANT/STRATUM.parquet       the same while only some items are asked: a wish for more goes on from it
    scores/MODEL/VARIANT/STRATUM.parquet       the score of each item
    scores/MODEL/VARIANT/STRATUM.json          the accuracy of each benchmark
    sensitivities/MODEL/BASE/OTHER/STRATUM.parquet  what each part of a model changes in a stratum with other bits
    studies/STUDY/                             tables, laws, figures, pages
    logs/STAGE/…, timings/STAGE/…              what each job printed, and how long it took
    rehearsals/KEY.json                        that the chain runs for a kind of model that no test covers
    hashes.json                                those of local models and of the corpus, as they were last seen
    ```
    """

    root: Path = Path("results")

    def model(self, model: str) -> Path:
        return self.root / "models" / model

    @property
    def downloads(self) -> Path:
        """Files of models whose download has not finished."""
        return self.root / "downloads"

    @property
    def hashes(self) -> Path:
        """Hashes of files outside of this folder (see ``contents``)."""
        return self.root / "hashes.json"

    def rehearsal(self, key: str) -> Path:
        """What a rehearsal found (see ``preparation.rehearsals``)."""
        return self.root / "rehearsals" / f"{key}.json"

    def corpus(self, calibration: Calibration) -> Path:
        """Where the calibration text is, or will be once it is fetched; on this machine it stays where it is.

        For studies that have one, and not mixtures alone.
        """
        assert calibration.corpus is not None
        if calibration.dataset is None:
            return Path(calibration.corpus)
        repository = f"{calibration.dataset.replace('/', '--')}@{calibration.revision}"
        return self.root / "corpus" / repository / calibration.corpus

    def corpus_record(self, calibration: Calibration) -> Path:
        """The hash of a fetched corpus, which has no room for a seal."""
        corpus = self.corpus(calibration)
        return corpus.with_name(f"{corpus.name}.sha256.json")

    def corpora(self, calibration: Calibration, mixture: str) -> dict[str, Path]:
        """The files that the samples of a mixture are drawn from, by the names that seals give them; ``mixture``: empty
        for the samples of the study's corpus."""
        if not mixture:
            return {"corpus": self.corpus(calibration)}
        return {f"corpora.{name}": Path(calibration.corpora[name]) for name in calibration.mixtures[mixture]}

    def requests(self, model: str, stratum: str) -> Path:
        return self.root / "requests" / model / f"{stratum}.parquet"

    def documents(self, model: str, stratum: str) -> Path:
        return self.root / "requests" / model / "documents" / f"{stratum}.parquet"

    def batches(self, model: str, stratum: str) -> Path:
        return self.root / "requests" / model / f"{stratum}.batches.safetensors"

    def calibration(self, model: str, draw: str) -> Path:
        return self.root / "calibration" / model / f"{draw}.parquet"

    def checkpoint(self, model: str, variant: str) -> Path:
        return self.root / "checkpoints" / model / variant

    def conversion(self, model: str, variant: str) -> Path:
        return self.root / "conversions" / model / variant

    def weights(self, model: str, variant: str) -> Path:
        """The folder with the weights of a variant: the model itself, a checkpoint, or what one was converted to."""
        if variant == BASELINE_NAME:
            return self.model(model)
        return (self.checkpoint if is_quantized_here(variant) else self.conversion)(model, variant)

    def answers(self, model: str, variant: str, stratum: str) -> Path:
        return self.root / "answers" / model / variant / f"{stratum}.parquet"

    def blocks(self, model: str, variant: str, stratum: str) -> Path:
        return self.root / "blocks" / model / variant / f"{stratum}.parquet"

    def scores(self, model: str, variant: str, stratum: str) -> Path:
        return self.root / "scores" / model / variant / f"{stratum}.parquet"

    def accuracies(self, model: str, variant: str, stratum: str) -> Path:
        return self.scores(model, variant, stratum).with_suffix(".json")

    def sensitivities(self, model: str, base: str, other: str, stratum: str) -> Path:
        """What each part of a model changes in a stratum when it has the bits of the second of two variants."""
        return self.root / "sensitivities" / model / base / other / f"{stratum}.parquet"

    def of_study(self, study: str, file: str = "") -> Path:
        """A file of a study such as ``laws.json``, or its folder."""
        return self.root / "studies" / study / file

    def files_of_study(self, study: str, stage: str) -> list[Path]:
        """All files that a stage makes for a study."""
        return [self.of_study(study, file) for file in OF_STUDY[stage]] + self.captions(study, stage)

    def captions(self, study: str, stage: str) -> list[Path]:
        return [self.of_study(study, f"captions/{name}.rst") for name in CAPTIONS.get(stage, ())]

    def log(self, stage: str, job: str) -> Path:
        """What a job printed; ``job``: its name, such as ``MODEL/VARIANT``."""
        return self.root / "logs" / stage / f"{job}.log"

    def timing(self, stage: str, job: str) -> Path:
        """How long a job took, by Snakemake."""
        return self.root / "timings" / stage / f"{job}.tsv"

    @property
    def slurm_logs(self) -> Path:
        """Slurm's logs (profiles/slurm/config.yaml: slurm-logdir)."""
        return self.root / "logs" / "slurm"
