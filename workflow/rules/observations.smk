QUANTIZED = OBSERVED[OBSERVED.variant != BASELINE_NAME]


rule observations:
    "The observations table: accuracy of each variant of each model on each benchmark."
    input:
        models=[RESULTS.model(model) for model in OBSERVED.model.unique()],
        checkpoints=[RESULTS.weights(row.model, row.variant) for row in QUANTIZED.itertuples()],
        scores=[RESULTS.scores(row.model, row.variant, stratum) for row in OBSERVED.itertuples() for stratum in STRATA],
    output:
        csv=report(
            of_study("observations.csv"),
            caption="../report/observations.rst",
            category=OBSERVATIONS,
            labels={"what": PAGES["observations"][1], "form": "table (CSV)"},
        ),
        parquet=of_study("observations.parquet"),
        items_parquet=of_study("items.parquet"),
        captions=captions("observations"),
    log:
        RESULTS.log("observations", STUDY.name),
    benchmark:
        RESULTS.timing("observations", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        study=STUDY.as_plain(),
    script:
        "../scripts/build_observations.py"
