rule coverage:
    "What the study names, what of it was observed, and why the rest is missing."
    input:
        observations=rules.observations.output.parquet,
    output:
        coverage=report(
            of_study("coverage.csv"),
            caption="../report/coverage.rst",
            category=COVERAGE,
            labels={"what": PAGES["coverage"][1], "form": "table (CSV)"},
        ),
        failures=report(
            of_study("failures.csv"),
            caption="../report/failures.rst",
            category=COVERAGE,
            labels={"what": PAGES["failures"][1], "form": "table (CSV)"},
        ),
        captions=captions("coverage"),
    log:
        RESULTS.log("coverage", STUDY.name),
    benchmark:
        RESULTS.timing("coverage", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        study=STUDY.as_plain(),
    script:
        "../scripts/report_coverage.py"
