rule calibration:
    "A draw of calibration samples as token ids; smaller sets are its first rows."
    input:
        model="results/models/{model}",
        corpus=STUDY.calibration.corpus,
    output:
        "results/calibration/{model}/s{seed}.parquet",
    log:
        "results/logs/calibration/{model}/s{seed}.log",
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        tokens=STUDY.calibration.tokens,
        samples=int(VARIANTS.calibration_size.max()),
    script:
        "../scripts/draw_calibration.py"
