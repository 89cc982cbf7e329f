rule figures:
    "What was observed and what the laws make of it, to look at (SVG) and for slides (PNG)."
    input:
        observations=rules.observations.output.parquet,
        damage=rules.damage.output.parquet,
        laws=rules.laws.output.laws,
    output:
        *(
            report(
                of_study(f"figures/{name}.svg"),
                caption=f"../report/{name}.rst",
                category=category,
                labels={"what": label, "form": "figure"},
            )
            for name, (category, label) in FIGURES.items()
        ),
        *(of_study(f"figures/{name}.png") for name in FIGURES),
        captions=captions("figures"),
    log:
        RESULTS.log("figures", STUDY.name),
    benchmark:
        RESULTS.timing("figures", STUDY.name)
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        study=STUDY.as_plain(),
    script:
        "../scripts/plot_figures.py"
