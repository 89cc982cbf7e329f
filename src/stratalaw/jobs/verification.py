"""Is everything that a study made whole, about what its path says, and made from what is there now?

From the source of a model to the laws, each file's seal (``seals``) is checked, and that what it was made from has
the digest that it has today. Nothing is trusted to time stamps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stratalaw.calibration.samples import about_draw, check_recorded, digest_of_mixture
from stratalaw.errors import StratalawError
from stratalaw.files import sha256
from stratalaw.layout import Results
from stratalaw.models.folder import MANIFEST, manifest_seal, model_files, verify_model
from stratalaw.pipeline import STAGES, Job, jobs_of
from stratalaw.quantization.gptq import checkpoint_seal, verify_checkpoint
from stratalaw.quantization.unquantizable import why_unquantizable
from stratalaw.seals import Seal, digest_of, read_record, read_sealed, seal_of
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME, draw_of, seed_and_mixture


@dataclass
class StageVerified:
    """What was found of one stage: how many of its files are whole, a line for each that is not, and the names of the
    jobs that made those; none for what no job makes."""

    stage: str
    whole: int = 0
    problems: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


def verify_study(study: Study, results: Results) -> list[StageVerified]:
    """Check every file of a study that later stages read, as far as it was made; stages in the order of the data, and
    last sensitivities, where some were measured."""
    chain, jobs = _Chain(study, results), jobs_of(study, results)
    of_study = {job.stage.name for job in jobs}
    found = {stage.name: StageVerified(stage.name) for stage in STAGES if stage.name in CHECKS.keys() & of_study}
    for job in jobs:
        if job.stage.name not in CHECKS:
            continue
        for path in filter(partial(_is_read_later, job), filter(Path.exists, job.outputs)):
            try:
                CHECKS[job.stage.name](chain, job, path)
                found[job.stage.name].whole += 1
            except (StratalawError, OSError) as error:
                found[job.stage.name].problems.append(str(error))
                found[job.stage.name].jobs.append(job.name)
    return [*found.values(), *_sensitivities(chain)]


def _sensitivities(chain: _Chain) -> list[StageVerified]:
    """What was measured beside the workflow, which has no job; empty where nothing was."""
    found = StageVerified("sensitivities")
    for model in chain.study.models:
        for path in sorted(chain.results.root.glob(f"sensitivities/{model.name}/*/*/*.parquet")):
            base, other = path.parent.parent.name, path.parent.name
            about = {"model": model.name, "base": base, "other": other, "stratum": path.stem}
            try:
                weights = {name: chain.of_weights(model.name, about[name]) for name in ("base", "other")}
                made_from = chain.of_model(model.name) | weights
                made_from["requests"] = chain.digest(chain.results.requests(model.name, path.stem))
                made_from["answers"] = chain.digest(chain.results.answers(model.name, BASELINE_NAME, path.stem))
                read_sealed(path, "sensitivities", about, made_from)
                found.whole += 1
            except (StratalawError, OSError) as error:
                found.problems.append(str(error))
    return [found] if found.whole or found.problems else []


def _is_read_later(job: Job, path: Path) -> bool:
    """Whether a later stage reads a file or folder of a job; the others are for people, or belong to one that is."""
    if job.stage.name == "corpus":
        return path == job.outputs[0]
    return path.is_dir() or path.suffix in (".parquet", ".safetensors") or path.name == "laws.json"


@dataclass
class _Chain:
    """A study's files, and the digests of those that were looked at."""

    study: Study
    results: Results
    digests: dict[Path, str] = field(default_factory=dict)

    def digest(self, path: Path, seal: Callable[[Path], Seal] = seal_of) -> str:
        if path not in self.digests:
            self.digests[path] = seal(path).digest
        return self.digests[path]

    def of_model(self, model: str) -> dict[str, str]:
        return {"model": self.digest(self.results.model(model), manifest_seal)}

    def of_weights(self, model: str, variant: str) -> str:
        if variant == BASELINE_NAME:
            return self.of_model(model)["model"]
        folder = self.results.weights(model, variant)
        return self.digest(folder, lambda path: checkpoint_seal(path, self.of_model(model)))

    @property
    def about(self) -> dict[str, str]:
        return {"study": self.study.name}

    def of_study(self, file: str) -> str:
        return self.digest(self.results.of_study(self.study.name, file))


def _models(chain: _Chain, job: Job, path: Path) -> None:
    manifest_seal(path)
    verify_model(path)
    source = Path(next(model.source for model in chain.study.models if model.name == job.model))
    if source.is_dir():
        sums = read_record(path / MANIFEST, "model")["sha256"]
        for file in model_files(source):
            if sums.get(file.name) != sha256(file):
                raise StratalawError(f"{file}: is not what {path} was copied from; delete {path} and run again")


def _requests(chain: _Chain, job: Job, path: Path) -> None:
    about = {"stratum": path.name.partition(".")[0]}
    table = chain.results.requests(job.model, about["stratum"])
    if path == table:
        read_sealed(path, "requests", about, chain.of_model(job.model))
    else:
        kind = "batches" if path == chain.results.batches(job.model, about["stratum"]) else "documents"
        read_sealed(path, kind, about, {"requests": chain.digest(table)})


def _corpus(chain: _Chain, job: Job, path: Path) -> None:
    check_recorded(path, chain.results.corpus_record(chain.study.calibration))


def _calibration(chain: _Chain, job: Job, path: Path) -> None:
    made_from, (seed, mixture) = chain.of_model(job.model), seed_and_mixture(path.stem)
    for name, corpus in chain.results.corpora(chain.study.calibration, mixture).items():
        if corpus.exists():
            made_from |= {name: chain.digest(corpus, lambda file: Seal("corpus", {}, {}, sha256(file)))}
    if mixture:
        made_from |= {"mixture": digest_of_mixture(chain.study.calibration.mixtures[mixture])}
    read_sealed(path, "calibration", about_draw(seed, mixture), made_from)


def _checkpoints(chain: _Chain, job: Job, path: Path) -> None:
    drawn = chain.results.calibration(job.model, draw_of(job.variant))
    checkpoint_seal(path, chain.of_model(job.model) | {"calibration": chain.digest(drawn)})
    if not why_unquantizable(path):
        verify_checkpoint(path)


def _conversions(chain: _Chain, job: Job, path: Path) -> None:
    checkpoint_seal(path, chain.of_model(job.model))
    verify_checkpoint(path)


def _answers(chain: _Chain, job: Job, path: Path) -> None:
    requests = chain.digest(chain.results.requests(job.model, path.stem))
    made_from = {"weights": chain.of_weights(job.model, job.variant), "requests": requests}
    is_compared = chain.study.evaluation.paired_stderr is not None and job.variant != BASELINE_NAME
    if is_compared and not why_unquantizable(chain.results.weights(job.model, job.variant)):
        made_from["original"] = chain.digest(chain.results.scores(job.model, BASELINE_NAME, path.stem))
    read_sealed(path, "answers", _about(job, path), made_from)


def _scores(chain: _Chain, job: Job, path: Path) -> None:
    answers = chain.digest(chain.results.answers(job.model, job.variant, path.stem))
    requests = chain.digest(chain.results.requests(job.model, path.stem))
    read_sealed(path, "scores", _about(job, path), {"requests": requests, "answers": answers})


def _about(job: Job, path: Path) -> dict[str, str]:
    return {"model": job.model, "variant": job.variant, "stratum": path.stem}


def _observations(chain: _Chain, job: Job, path: Path) -> None:
    scores = [
        chain.results.scores(model, variant, stratum)
        for model, variant in chain.study.variant_names()
        for stratum in chain.study.evaluation.strata
    ]
    made_from = {"scores": digest_of(chain.digest(score) for score in scores if score.exists())}
    read_sealed(path, path.stem, chain.about, made_from)


def _damage(chain: _Chain, job: Job, path: Path) -> None:
    read_sealed(path, "damage", chain.about, {"items": chain.of_study("items.parquet")})


def _laws(chain: _Chain, job: Job, path: Path) -> None:
    read_sealed(path, "laws", {}, {"observations": chain.of_study("observations.parquet")})


CHECKS: Mapping[str, Callable[[_Chain, Job, Path], None]] = {
    "models": _models,
    "corpus": _corpus,
    "requests": _requests,
    "calibration": _calibration,
    "checkpoints": _checkpoints,
    "conversions": _conversions,
    "answers": _answers,
    "scores": _scores,
    "observations": _observations,
    "damage": _damage,
    "laws": _laws,
}
