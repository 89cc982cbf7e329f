QUANTIZED = VARIANTS[VARIANTS.variant != BASELINE_NAME]


rule observations:
    "The observations table: accuracy of each variant of each model on each benchmark."
    input:
        study=STUDY_FILE,
        models=expand("results/models/{model}", model=MODELS),
        checkpoints=expand(
            "results/checkpoints/{model}/{variant}", zip, model=QUANTIZED.model, variant=QUANTIZED.variant
        ),
        scores=[
            f"results/scores/{row.model}/{row.variant}/{stratum}.parquet"
            for row in VARIANTS.itertuples()
            for stratum in STRATA
        ],
    output:
        csv=f"results/studies/{STUDY.name}/observations.csv",
        parquet=f"results/studies/{STUDY.name}/observations.parquet",
    log:
        f"results/logs/observations/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/observations/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    script:
        "../scripts/build_observations.py"
