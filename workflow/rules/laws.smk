rule laws:
    "The laws of the study: exponents and how sure they are, rival forms on held-out data, verdicts on the paper's claims."
    input:
        observations=rules.observations.output.parquet,
        items_parquet=rules.observations.output.items_parquet,
        coverage=rules.coverage.output.coverage,
    output:
        laws=f"results/studies/{STUDY.name}/laws.json",
        exponents=report(
            f"results/studies/{STUDY.name}/exponents.csv",
            caption="../report/exponents.rst",
            category="Laws",
            labels={"what": "exponents", "form": "table"},
        ),
        forms=report(
            f"results/studies/{STUDY.name}/forms.csv",
            caption="../report/forms.rst",
            category="Laws",
            labels={"what": "forms compared", "form": "table"},
        ),
        verdicts=report(
            f"results/studies/{STUDY.name}/verdicts.csv",
            caption="../report/verdicts.rst",
            category="Laws",
            labels={"what": "verdicts on the paper's claims", "form": "table"},
        ),
    log:
        f"results/logs/laws/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/laws/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=2000,
    params:
        about=ABOUT,
        resamples=RESAMPLES,
    script:
        "../scripts/fit_laws.py"
