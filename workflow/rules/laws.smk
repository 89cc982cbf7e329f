rule laws:
    "The paper's law for each stratum and in general: exponents with intervals, and the rows left out with the reason."
    input:
        rules.observations.output.parquet,
    output:
        f"results/studies/{STUDY.name}/laws.json",
    log:
        f"results/logs/laws/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/laws/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    script:
        "../scripts/fit_laws.py"
