"""``stratalaw next``: from what was measured of a study to what to measure next, and on, until that is enough."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from stratalaw.cost.estimate import expectation
from stratalaw.jobs.redo import with_study
from stratalaw.jobs.resume import snakemake_command
from stratalaw.jobs.so_far import read_so_far
from stratalaw.layout import Results
from stratalaw.models.known_shapes import shapes_of_study
from stratalaw.pipeline import STAGES
from stratalaw.planning.steps import Goal, Step, next_step, precision_of
from stratalaw.planning.wishes import wish_of
from stratalaw.study import Study, read_study

DOWNLOAD_RATE = 1e8  # bytes per second; downloads are not counted
ON_GPU = [stage.name for stage in STAGES if stage.on_gpu]


class Sequel:
    """The next steps of a study.

    Args:
        study_file: the study.
        text: what is to be known (see ``planning.wishes``); every accuracy if not given.
        until: how precisely.
        gpu_hours: budget of the whole.
        most: variants of a batch.
        results: where it is measured.

    Raises:
        WishError: what is asked is not understood.
        StudyError: the file is no study, or a model is not there.
    """

    def __init__(
        self,
        study_file: Path,
        text: str | None = None,
        until: str | None = None,
        gpu_hours: float | None = None,
        most: int | None = None,
        results: Results = Results(),
    ) -> None:
        self.study: Study = read_study(study_file)
        self._file, self._results = study_file, results
        shapes = shapes_of_study(self.study, str(study_file), results)
        self._sizes = {name: float(shape.n_params) for name, shape in shapes.items()}
        wish = wish_of(text, self.study, shapes)
        precision = None if until is None else precision_of(until, wish)
        self.goal = Goal(wish, precision, float("inf") if gpu_hours is None else gpu_hours * 3600, most)

    def step(self) -> Step:
        """What to measure next."""
        so_far = read_so_far(self.study, self._results)
        expected = expectation(
            self.study, str(self._file), DOWNLOAD_RATE, results=self._results, count_requests=False
        ).variants
        names = zip(expected.model, expected.variant, strict=True)
        seconds = dict(zip(names, expected[ON_GPU].sum(axis=1).astype(float), strict=True))
        return next_step(self.study, so_far.observations, so_far.tried, self._sizes, seconds, self.goal)

    def targets(self, step: Step) -> list[str]:
        """What Snakemake is asked for: one file of each variant, whose rule makes those of all strata."""
        first = next(iter(self.study.evaluation.strata))
        return [str(self._results.scores(model, variant, first)) for model, variant in step.variants]

    def run(self, arguments: Sequence[str], tell: Callable[[Step], None]) -> int:
        """Measure step by step until the goal or the budget is reached, and return snakemake's exit status.

        Args:
            arguments: of snakemake.
            tell: is told every step.
        """
        asked: set[str] = set()
        while True:
            step = self.step()
            tell(step)
            targets = self.targets(step)
            if not targets or asked.issuperset(targets):  # with -n nothing is measured
                return 0
            asked.update(targets)
            command = snakemake_command([*targets, *with_study(self._file, arguments)])
            if status := subprocess.run(command, check=False).returncode:
                return status
