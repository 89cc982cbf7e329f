rule model:
    "A model's folder, whole and checked, with the hashes of its files."
    input:
        lambda wildcards: model_files(Path(MODELS[wildcards.model].source)),
    output:
        directory("results/models/{model}"),
    log:
        "results/logs/models/{model}.log",
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=lambda wildcards: MODELS[wildcards.model].source,
    script:
        "../scripts/copy_model.py"
