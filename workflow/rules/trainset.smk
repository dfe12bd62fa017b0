# One set of 2D images for each model that is trained here.


rule build_trainset:
    input:
        volumes=collect(
            "results/{item.cohort}/slides/{item.slide}/denoised.ome.zarr",
            item=slides_to_learn_from,
        ),
        manifests=collect(
            "results/{item.cohort}/slides/{item.slide}/denoised.json",
            item=slides_to_learn_from,
        ),
        patches=collect(
            "results/{item.cohort}/slides/{item.slide}/patches.parquet",
            item=slides_to_learn_from,
        ),
        patch_manifests=collect(
            "results/{item.cohort}/slides/{item.slide}/patches.json",
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
    threads: 4
    resources:
        mem_mb=growing(8000),
        runtime=240,
    params:
        algorithm=1,
        settings=settings("trainset"),
        slides=digest(slides_to_learn_from),
        sheets=sheet_flags,
        work="results/.work/models/{model}/trainset",
    shell:
        "msdsr trainset {output.store} {params.sheets:q} --work {params.work}"
        " --settings {params.settings:q} > {log} 2>&1"
