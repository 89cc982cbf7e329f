rule coverage:
    "What the study names, what of it was observed, and why the rest is missing."
    input:
        study=STUDY_FILE,
        observations=rules.observations.output.parquet,
    output:
        coverage=report(
            f"results/studies/{STUDY.name}/coverage.csv",
            caption="../report/coverage.rst",
            category="Coverage",
            labels={"what": "variants named and observed", "form": "table"},
        ),
        failures=report(
            f"results/studies/{STUDY.name}/failures.csv",
            caption="../report/failures.rst",
            category="Coverage",
            labels={"what": "jobs that failed", "form": "table"},
        ),
    log:
        f"results/logs/coverage/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/coverage/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    script:
        "../scripts/report_coverage.py"
