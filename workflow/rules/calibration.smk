CORPUS = RESULTS.corpus(STUDY.calibration)

if STUDY.calibration.dataset:

    rule corpus:
        "The text that calibration samples are drawn from, fetched from the Hub once."
        output:
            corpus=CORPUS,
            record=RESULTS.corpus_record(STUDY.calibration),
        log:
            RESULTS.log("corpus", STUDY.name),
        conda:
            "../../envs/analysis.yaml"
        threads: 1
        resources:
            mem_mb=1000,
        params:
            dataset=STUDY.calibration.dataset,
            revision=STUDY.calibration.revision,
            file=STUDY.calibration.corpus,
        script:
            "../scripts/fetch_corpus.py"


rule calibration:
    "A draw of calibration samples as token ids; smaller sets are its first rows."
    input:
        model=RESULTS.model("{model}"),
        corpus=CORPUS if STUDY.calibration.dataset else ancient(CORPUS),
        record=RESULTS.corpus_record(STUDY.calibration) if STUDY.calibration.dataset else [],
        requests=REQUESTS if STUDY.calibration.overlap_words else [],
    output:
        RESULTS.calibration("{model}", "{seed}"),
    log:
        RESULTS.log("calibration", "{model}/s{seed}"),
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        content=lambda wildcards: content_of(*([] if STUDY.calibration.dataset else [CORPUS])),
        tokens=STUDY.calibration.tokens,
        overlap_words=STUDY.calibration.overlap_words,
        samples=int(VARIANTS.calibration_size.fillna(0).max()),
        made_by=made_by("numpy", "tokenizers", "transformers"),
    script:
        "../scripts/draw_calibration.py"
