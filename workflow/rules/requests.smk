rule requests:
    "Every request that lm-eval makes, tokenized, how they share their tokens, and the documents: once for all variants."
    input:
        model=RESULTS.model("{model}"),
        tasks=TASKS,
    output:
        **dict(
            zip(
                [f"{file}{stratum}" for file in ("", "batches_of_", "documents_of_") for stratum in STRATA],
                REQUESTS + BATCHES + DOCUMENTS,
            )
        ),
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
