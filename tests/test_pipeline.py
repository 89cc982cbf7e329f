from pathlib import Path

from stratalaw.layout import Results
from stratalaw.pipeline import jobs_of
from stratalaw.study import Study, read_study


def test_variants_wait_for_the_scores_of_their_original_only_where_they_are_asked_some_items():
    whole = read_study(Path("config/demo.yaml"))
    values = whole.model_dump()
    values["evaluation"]["paired_stderr"] = 0.01
    for study, waits in ((whole, False), (Study(**values), True)):
        jobs = jobs_of(study, Results())
        answers = [job for job in jobs if job.stage.name == "answers"]
        assert len(answers) == len(study.variant_names())
        for job in answers:
            after = {(jobs[place].stage.name, jobs[place].name) for place in job.after}
            is_compared = waits and job.variant != "bf16"
            assert (("scores", f"{job.model}/bf16") in after) == is_compared
