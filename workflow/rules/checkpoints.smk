rule checkpoints:
    "One GPTQ checkpoint: a variant of a model, with the audit of how it came about."
    input:
        model=RESULTS.model("{model}"),
        calibration=samples_for,
    output:
        directory(RESULTS.checkpoint("{model}", "{variant}")),
    log:
        RESULTS.log("checkpoints", "{model}/{variant}"),
    cache: True
    conda:
        "../../envs/gpu.yaml"
    threads: STUDY.gptq.threads
    resources:
        mem_mb=for_checkpoint("mem_mb"),
        gpu_mem_mb=for_checkpoint("gpu_mem_mb"),
        runtime=for_checkpoint("runtime"),
        expected_seconds=for_checkpoint("expected_seconds"),
    params:
        options=gptq_of,
        made_by=made_by("gptqmodel", "torch", "transformers"),
    script:
        "../scripts/quantize_model.py"


if OPTIONS.gpus_per_checkpoint > 1:
    share_among_gpus(rules.checkpoints.rule.resources)
