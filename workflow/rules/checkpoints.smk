rule quantize:
    "One GPTQ checkpoint: a variant of a model, with the audit of how it came about."
    input:
        model="results/models/{model}",
        calibration="results/calibration/{model}/s{seed}.parquet",
    output:
        directory("results/checkpoints/{model}/w{bits}-g{group_size}-c{samples}-s{seed}"),
    log:
        "results/logs/checkpoints/{model}/w{bits}-g{group_size}-c{samples}-s{seed}.log",
    cache: True
    conda:
        "../../envs/gpu.yaml"
    threads: STUDY.gptq.threads
    resources:
        mem_mb=for_quantization("mem_mb"),
        gpu_mem_mb=for_quantization("gpu_mem_mb"),
        runtime=for_quantization("runtime"),
    params:
        options=STUDY.gptq.model_dump(),
        made_by=made_by("gptqmodel", "torch", "transformers"),
    script:
        "../scripts/quantize.py"
