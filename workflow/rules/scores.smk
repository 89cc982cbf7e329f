rule scores:
    "What lm-eval's own metrics say of one variant's answers: a score for each item, and the accuracy of each benchmark."
    input:
        requests=REQUESTS,
        tasks=TASKS,
        answers=rules.loglikelihoods.output,
    output:
        scores=expand("results/scores/{{model}}/{{variant}}/{stratum}.parquet", stratum=STRATA),
        summary=expand("results/scores/{{model}}/{{variant}}/{stratum}.json", stratum=STRATA),
    log:
        "results/logs/scores/{model}/{variant}.log",
    benchmark:
        "results/benchmarks/scores/{model}/{variant}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        evaluation=STUDY.evaluation.for_scores(),
    script:
        "../scripts/score_items.py"
