rule summary:
    "What was run and what came out, in ten lines: the landing page of the report."
    input:
        study=STUDY_FILE,
        observations=rules.observations.output.parquet,
        laws=rules.laws.output.laws,
    output:
        f"results/studies/{STUDY.name}/summary.rst",
    log:
        f"results/logs/summary/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/summary/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    script:
        "../scripts/summarize.py"
