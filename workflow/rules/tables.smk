rule tables:
    "The tables of the study as pages: to read, sort and filter without a network."
    input:
        observations=rules.observations.output.parquet,
        damage=rules.damage.output.parquet,
        laws=rules.laws.output.laws,
        coverage=rules.coverage.output.coverage,
        failures=rules.coverage.output.failures,
    output:
        *(
            report(
                of_study(f"tables/{name}.html"),
                caption=f"../report/{name}.rst",
                category=category,
                labels={"what": label, "form": "page"},
            )
            for name, (category, label) in PAGES.items()
        ),
    log:
        RESULTS.log("tables", STUDY.name),
    benchmark:
        RESULTS.timing("tables", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    script:
        "../scripts/write_tables.py"
