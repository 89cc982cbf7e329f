rule answers:
    "The answers of one variant to all requests, on dense bf16 weights."
    input:
        model=RESULTS.model("{model}"),
        weights=lambda wildcards: RESULTS.weights(wildcards.model, wildcards.variant),
        requests=REQUESTS,
        batchings=BATCHES,
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
        tokens_per_batch=STUDY.evaluation.tokens_per_batch,
    script:
        "../scripts/answer_requests.py"
