# By how much an original is sure of each item tells what variants lose of those that they are not asked.
WITH_GAPS = {"with_gaps": True} if STUDY.evaluation.paired_stderr is not None else {}


rule scores:
    "What lm-eval's own metrics say of one variant's answers: a score for each item, and the accuracy of each benchmark."
    input:
        requests=REQUESTS,
        documents=DOCUMENTS,
        answers=rules.answers.output,
    output:
        scores=[RESULTS.scores("{model}", "{variant}", stratum) for stratum in STRATA],
        accuracies=[RESULTS.accuracies("{model}", "{variant}", stratum) for stratum in STRATA],
    log:
        RESULTS.log("scores", "{model}/{variant}"),
    benchmark:
        RESULTS.timing("scores", "{model}/{variant}")
    priority: PRIORITY["scores"]
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        expected_seconds=20,
    params:
        **WITH_GAPS,
        evaluation=STUDY.evaluation.for_scores(),
        tasks=CONTENT_OF_TASKS,
    script:
        "../scripts/score_items.py"
