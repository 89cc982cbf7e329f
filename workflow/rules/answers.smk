# Of a study that asks for a precision, and no others: finished ones must not find a parameter that they did not have.
IN_PART = {"in_part": in_part} if STUDY.evaluation.paired_stderr is not None else {}


rule answers:
    "The answers of one variant to all requests, on dense bf16 weights."
    input:
        model=RESULTS.model("{model}"),
        weights=lambda wildcards: RESULTS.weights(wildcards.model, wildcards.variant),
        requests=REQUESTS,
        batchings=BATCHES,
        originals=for_part(lambda model, stratum: RESULTS.scores(model, BASELINE_NAME, stratum)),
        documents=for_part(RESULTS.documents),
    output:
        [RESULTS.answers("{model}", "{variant}", stratum) for stratum in STRATA],
    log:
        RESULTS.log("answers", "{model}/{variant}"),
    benchmark:
        RESULTS.timing("answers", "{model}/{variant}")
    priority: PRIORITY["answers"]
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=for_answers("mem_mb"),
        gpu_mem_mb=for_answers("gpu_mem_mb"),
        runtime=for_answers("runtime"),
        expected_seconds=for_answers("expected_seconds"),
    params:
        **IN_PART,
        tokens_per_batch=STUDY.evaluation.tokens_per_batch,
    script:
        "../scripts/answer_requests.py"
