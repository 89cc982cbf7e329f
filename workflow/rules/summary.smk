rule summary:
    "What was run and what came out, in ten lines: the landing page of the report."
    input:
        observations=rules.observations.output.parquet,
        damage=rules.damage.output.parquet,
        laws=rules.laws.output.laws,
    output:
        of_study("summary.rst"),
    log:
        RESULTS.log("summary", STUDY.name),
    benchmark:
        RESULTS.timing("summary", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        study=STUDY.as_plain(),
    script:
        "../scripts/write_summary.py"
