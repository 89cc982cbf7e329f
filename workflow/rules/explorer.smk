rule explorer:
    "One page that works without a network: predictions of any variant, and linked plots of all of them."
    input:
        study=STUDY_FILE,
        observations=rules.observations.output.parquet,
        laws=rules.laws.output.laws,
    output:
        report(
            f"results/studies/{STUDY.name}/explorer.html",
            caption="../report/explorer.rst",
            category="Explorer",
            labels={"what": "predict, compare, look", "form": "page"},
        ),
    log:
        f"results/logs/explorer/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/explorer/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    script:
        "../scripts/write_explorer.py"
