if STUDY.calibration.dataset:

    rule corpus:
        "The text that calibration samples are drawn from, fetched from the Hub once."
        output:
            corpus=RESULTS.corpus(STUDY.calibration),
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
        fetched=lambda wildcards: list(corpora_of(wildcards).values()) if is_fetched(wildcards) else [],
        corpora=ancient(lambda wildcards: [] if is_fetched(wildcards) else list(corpora_of(wildcards).values())),
        record=lambda wildcards: RESULTS.corpus_record(STUDY.calibration) if is_fetched(wildcards) else [],
        requests=REQUESTS if STUDY.calibration.overlap_words else [],
    output:
        RESULTS.calibration("{model}", "{draw}"),
    log:
        RESULTS.log("calibration", "{model}/{draw}"),
    cache: True
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        content=content_of_draw,
        tokens=STUDY.calibration.tokens,
        overlap_words=STUDY.calibration.overlap_words,
        samples=lambda wildcards: samples_of_mixture(seed_and_mixture(wildcards.draw)[1]),
        # Without a record: of draws that were made before, none is made again for a parameter more.
        names=lambda wildcards, input: list(corpora_of(wildcards)),
        parts=lambda wildcards, input: parts_of(wildcards),
        made_by=made_by("numpy", "tokenizers", "transformers"),
    script:
        "../scripts/draw_calibration.py"
