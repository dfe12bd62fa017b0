# The pages a cohort is judged by: an overview and what lies behind it, and one for each slide.


rule report_cohort:
    input:
        metrics="results/{cohort}/metrics",
        manifest="results/{cohort}/metrics.json",
        models=collect("results/models/{model}/model.json", model=models_of),
        acquired=collect(
            "results/{item.cohort}/slides/{item.slide}/denoised.ome.zarr",
            item=slides_in("infer"),
        ),
        restored=collect(
            "results/{item.cohort}/slides/{item.slide}/{method}_{factor}x.ome.zarr",
            item=slides_in("infer"),
            method=METHODS,
            factor=factors_of_cohort,
        ),
        spreads=collect(
            "results/{item.cohort}/slides/{item.slide}/{method}_{factor}x_std.ome.zarr",
            item=slides_in("infer"),
            method=[method for method in METHODS if method in SAMPLED_METHODS],
            factor=factors_of_cohort,
        ),
        truths=truths_of_cohort,
    output:
        page=page_of_report("index", "Overview"),
        tables_page=page_of_report("tables", "Tables"),
        figures_page=page_of_report("figures", "Figures"),
        slides_page=page_of_report("slides", "Slides"),
        pictures_page=page_of_report("pictures", "Pictures"),
        doubts_page=page_of_report("uncertainty", "Where to doubt"),
        method_page=page_of_report("method", "Method and provenance"),
        figures=report(
            directory("results/{cohort}/report/figures"),
            patterns=["{figure}.png"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"cohort": "{cohort}", "figure": "{figure}"},
        ),
        slides=report(
            directory("results/{cohort}/report/slides"),
            patterns=["{slide}.html"],
            caption="../report/slide.rst",
            category="Slides",
            labels={"cohort": "{cohort}", "slide": "{slide}"},
        ),
        tables=directory("results/{cohort}/report/tables"),
        archive="results/{cohort}/report/report.zip",
        manifest=ensure("results/{cohort}/report.json", non_empty=True),
    log:
        "results/logs/report/{cohort}.log",
    benchmark:
        "results/benchmarks/report/{cohort}.tsv"
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=60,
    params:
        algorithm=3,
        settings=settings("report"),
        slides=digest(slides_in("train", "val", "infer")),
        failed=digest_of_failed,
        sheet=lookup(dpath="cohorts/{cohort}/sheet", within=config),
        attribution=attribution_flags,
        curves=curve_flags,
        folder=subpath(output.page, parent=True),
    shell:
        "msdsr report {params.folder} --cohort {wildcards.cohort} --sheet {params.sheet:q}"
        " --metrics {input.metrics} {params.curves:q} {params.attribution:q}"
        " --without-failed --settings {params.settings:q} > {log} 2>&1"
