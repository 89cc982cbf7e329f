rule explorer:
    "One page that works without a network: predictions of any variant, and linked plots of all of them."
    input:
        observations=rules.observations.output.parquet,
        damage=rules.damage.output.parquet,
        laws=rules.laws.output.laws,
    output:
        page=report(
            of_study("explorer.html"),
            caption="../report/explorer.rst",
            category=EXPLORER,
            labels={"what": "predict, compare, look", "form": "page"},
        ),
        captions=captions("explorer"),
    log:
        RESULTS.log("explorer", STUDY.name),
    benchmark:
        RESULTS.timing("explorer", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        study=STUDY.as_plain(),
    script:
        "../scripts/write_explorer.py"
