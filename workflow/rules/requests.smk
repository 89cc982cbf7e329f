rule requests:
    "Every request that lm-eval makes, tokenized: built once, answered by every variant."
    input:
        "results/models/{model}",
    output:
        **{stratum: f"results/requests/{{model}}/{stratum}.parquet" for stratum in STRATA},
    log:
        "results/logs/requests/{model}.log",
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        evaluation=STUDY.evaluation.model_dump(),
    script:
        "../scripts/record_requests.py"
