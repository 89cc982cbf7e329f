rule models:
    "A model's folder, whole and checked, with the hashes of its files: copied, or fetched from the Hub once for all jobs."
    input:
        lambda wildcards: [ancient(file) for file in files_of(MODELS[wildcards.model])],
    output:
        directory(RESULTS.model("{model}")),
    log:
        RESULTS.log("models", "{model}"),
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=lambda wildcards: MODELS[wildcards.model].source,
        revision=lambda wildcards: MODELS[wildcards.model].revision,
        content=lambda wildcards: content_of(*files_of(MODELS[wildcards.model])),
        downloads=str(RESULTS.downloads),
        # Told apart by the cache alone, as what made_by says: the manifest holds the name.
        model=lambda wildcards, input: wildcards.model,
        made_by=made_by(),
    script:
        "../scripts/provide_model.py"
