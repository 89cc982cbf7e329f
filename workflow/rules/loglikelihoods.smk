rule loglikelihoods:
    "The answers of one variant to all requests, on dense bf16 weights."
    input:
        weights=weights_of,
        requests=REQUESTS,
        plans=PLANS,
    output:
        expand("results/loglikelihoods/{{model}}/{{variant}}/{stratum}.parquet", stratum=STRATA),
    log:
        "results/logs/loglikelihoods/{model}/{variant}.log",
    benchmark:
        "results/benchmarks/loglikelihoods/{model}/{variant}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=for_evaluation("mem_mb"),
        gpu_mem_mb=for_evaluation("gpu_mem_mb"),
        runtime=for_evaluation("runtime"),
    params:
        tokens_a_batch=STUDY.evaluation.tokens_a_batch,
    script:
        "../scripts/answer_requests.py"
