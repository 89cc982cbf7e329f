rule requests:
    "Every request that lm-eval makes, tokenized, and how they share their tokens: made once, answered by every variant."
    input:
        model=RESULTS.model("{model}"),
        tasks=TASKS,
    output:
        **dict(zip([*STRATA, *(f"batches_of_{stratum}" for stratum in STRATA)], REQUESTS + BATCHES)),
    log:
        RESULTS.log("requests", "{model}"),
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        evaluation=STUDY.evaluation.for_requests(),
        tasks=CONTENT_OF_TASKS,
        made_by=made_by("datasets", "lm_eval", "tokenizers", "transformers"),
    script:
        "../scripts/record_requests.py"
