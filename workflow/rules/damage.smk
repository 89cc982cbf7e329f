rule damage:
    "Each variant beside its original, paired by item: accuracy, flips, how sure the difference is, memory."
    input:
        items_parquet=rules.observations.output.items_parquet,
        models=[RESULTS.model(model) for model in OBSERVED.model.unique()],
        # What the weights of a mixed variant take does not follow from its name.
        mixed=[RESULTS.checkpoint(row.model, row.variant) for row in OBSERVED.itertuples() if is_mixed(row.variant)],
    output:
        csv=report(
            of_study("damage.csv"),
            caption="../report/damage.rst",
            category=LOST,
            labels={"what": PAGES["damage"][1], "form": "table (CSV)"},
        ),
        parquet=of_study("damage.parquet"),
        captions=captions("damage"),
    log:
        RESULTS.log("damage", STUDY.name),
    benchmark:
        RESULTS.timing("damage", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    script:
        "../scripts/measure_damage.py"
