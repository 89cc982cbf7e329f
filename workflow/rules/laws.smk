rule laws:
    "The laws of the study: exponents and how sure they are, rival forms on held-out data, verdicts on the paper's claims."
    input:
        observations=rules.observations.output.parquet,
        items_parquet=rules.observations.output.items_parquet,
    output:
        laws=of_study("laws.json"),
        variants=report(
            of_study("variants.csv"),
            caption="../report/variants.rst",
            category=ACCURACY,
            labels={"what": PAGES["variants"][1], "form": "table (CSV)"},
        ),
        exponents=report(
            of_study("exponents.csv"),
            caption="../report/exponents.rst",
            category=LAWS,
            labels={"what": PAGES["exponents"][1], "form": "table (CSV)"},
        ),
        models=report(
            of_study("models.csv"),
            caption="../report/models.rst",
            category=LAWS,
            labels={"what": PAGES["models"][1], "form": "table (CSV)"},
        ),
        forms=report(
            of_study("forms.csv"),
            caption="../report/forms.rst",
            category=LAWS,
            labels={"what": PAGES["forms"][1], "form": "table (CSV)"},
        ),
        verdicts=report(
            of_study("verdicts.csv"),
            caption="../report/verdicts.rst",
            category=LAWS,
            labels={"what": PAGES["verdicts"][1], "form": "table (CSV)"},
        ),
        families=report(
            of_study("families.csv"),
            caption="../report/families.rst",
            category=LAWS,
            labels={"what": PAGES["families"][1], "form": "table (CSV)"},
        ),
        needs=report(
            of_study("needs.csv"),
            caption="../report/needs.rst",
            category=LAWS,
            labels={"what": PAGES["needs"][1], "form": "table (CSV)"},
        ),
        captions=captions("laws"),
    log:
        RESULTS.log("laws", STUDY.name),
    benchmark:
        RESULTS.timing("laws", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    resources:
        mem_mb=2000,
    params:
        study=STUDY.as_plain(),
        not_run=NOT_RUN,
    script:
        "../scripts/fit_laws.py"
