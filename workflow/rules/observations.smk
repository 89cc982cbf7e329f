QUANTIZED = OBSERVED[OBSERVED.variant != BASELINE_NAME]


rule observations:
    "The observations table: accuracy of each variant of each model on each benchmark."
    input:
        study=STUDY_FILE,
        models=expand("results/models/{model}", model=OBSERVED.model.unique()),
        checkpoints=expand(
            "results/checkpoints/{model}/{variant}", zip, model=QUANTIZED.model, variant=QUANTIZED.variant
        ),
        scores=[
            f"results/scores/{row.model}/{row.variant}/{stratum}.parquet"
            for row in OBSERVED.itertuples()
            for stratum in STRATA
        ],
    output:
        csv=report(
            f"results/studies/{STUDY.name}/observations.csv",
            caption="../report/observations.rst",
            category="Observations",
            labels={"what": "observations", "form": "table"},
        ),
        parquet=f"results/studies/{STUDY.name}/observations.parquet",
        items_parquet=f"results/studies/{STUDY.name}/items.parquet",
    log:
        f"results/logs/observations/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/observations/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        about=ABOUT,
    script:
        "../scripts/build_observations.py"
