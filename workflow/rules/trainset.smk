# 2D images: each slide's are decoded once, and one set for each model links to those of its slides.
# A slide or a cohort that is added is decoded alone; nothing of the others is written again.


rule trainset_slide:
    input:
        store="results/{cohort}/slides/{slide}/denoised.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/denoised.json",
        patches="results/{cohort}/slides/{slide}/patches.parquet",
        patch_manifest="results/{cohort}/slides/{slide}/patches.json",
    output:
        store=directory("results/{cohort}/slides/{slide}/images.zarr"),
        index="results/{cohort}/slides/{slide}/images.parquet",
        manifest=ensure("results/{cohort}/slides/{slide}/images.json", non_empty=True),
    log:
        "results/logs/trainset/{cohort}/{slide}.log",
    benchmark:
        "results/benchmarks/trainset/{cohort}/{slide}.tsv"
    group:
        DENOISED
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=memory_for("images"),
        runtime=minutes_for("images"),
    params:
        algorithm=1,
        settings=settings("trainset"),
        work="results/.work/{cohort}/{slide}/images",
    shell:
        "msdsr trainset slide {input.store} {input.patches} {output.store} --work {params.work}"
        " --settings {params.settings:q} > {log} 2>&1"


rule build_trainset:
    input:
        images=collect(
            "results/{item.cohort}/slides/{item.slide}/images.zarr",
            item=slides_to_learn_from,
        ),
        indices=collect(
            "results/{item.cohort}/slides/{item.slide}/images.parquet",
            item=slides_to_learn_from,
        ),
        manifests=collect(
            "results/{item.cohort}/slides/{item.slide}/images.json",
            item=slides_to_learn_from,
        ),
    output:
        store=directory("results/models/{model}/trainset.zarr"),
        index="results/models/{model}/trainset.parquet",
        manifest=ensure("results/models/{model}/trainset.json", non_empty=True),
    log:
        "results/logs/trainset/{model}.log",
    benchmark:
        "results/benchmarks/trainset/{model}.tsv"
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=60,
    params:
        algorithm=2,
        settings=settings("trainset"),
        slides=digest(slides_to_learn_from),
        sheets=sheet_flags,
        work="results/.work/models/{model}/trainset",
    shell:
        "msdsr trainset build {output.store} {params.sheets:q} --work {params.work}"
        " --without-failed --settings {params.settings:q} > {log} 2>&1"
