FIGURES = {
    "accuracy": ("Accuracy", "accuracy by bits"),
    "effects": ("Accuracy", "group and calibration size"),
    "predicted": ("Laws", "predicted against observed"),
    "residuals": ("Laws", "residuals against each factor"),
    "exponents": ("Laws", "exponents beside the paper's"),
    "intervals": ("Laws", "exponents by method"),
    "profiles": ("Laws", "likelihood profiles of the exponents"),
    "forms": ("Laws", "forms compared on held-out data"),
    "held_out": ("Laws", "predicted against observed on held-out sizes"),
}


rule figures:
    "What was observed and what the laws make of it, to look at (SVG) and for slides (PNG)."
    input:
        observations=rules.observations.output.parquet,
        laws=rules.laws.output.laws,
    output:
        *(
            report(
                f"results/studies/{STUDY.name}/figures/{name}.svg",
                caption=f"../report/{name}.rst",
                category=category,
                labels={"what": label, "form": "figure"},
            )
            for name, (category, label) in FIGURES.items()
        ),
        expand(f"results/studies/{STUDY.name}/figures/{{name}}.png", name=FIGURES),
    log:
        f"results/logs/figures/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/figures/{STUDY.name}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        about=ABOUT,
    script:
        "../scripts/draw_figures.py"
