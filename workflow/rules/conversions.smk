rule conversions:
    "The dense weights of a checkpoint that exists, with an audit of what it is: a variant beside those made here."
    input:
        model=RESULTS.model("{model}"),
        files=lambda wildcards: [
            ancient(file) for file in files_of_checkpoint(EXISTING[wildcards.model, wildcards.variant])
        ],
    output:
        directory(RESULTS.conversion("{model}", "{variant}")),
    log:
        RESULTS.log("conversions", "{model}/{variant}"),
    conda:
        "../../envs/gpu.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        source=lambda wildcards: EXISTING[wildcards.model, wildcards.variant].source,
        revision=lambda wildcards: EXISTING[wildcards.model, wildcards.variant].revision,
        file=lambda wildcards: EXISTING[wildcards.model, wildcards.variant].file,
        content=lambda wildcards: content_of(*files_of_checkpoint(EXISTING[wildcards.model, wildcards.variant])),
        downloads=str(RESULTS.downloads),
    script:
        "../scripts/convert_checkpoint.py"
