# The patch grid and the tissue mask.


rule patch_slide:
    input:
        store="results/{cohort}/slides/{slide}/raw.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/raw.json",
    output:
        patches="results/{cohort}/slides/{slide}/patches.parquet",
        manifest=ensure("results/{cohort}/slides/{slide}/patches.json", non_empty=True),
    log:
        "results/logs/patch/{cohort}/{slide}.log",
    benchmark:
        "results/benchmarks/patch/{cohort}/{slide}.tsv"
    group:
        PREPARING
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=memory_for("patch"),
        runtime=minutes_for("patch"),
    params:
        algorithm=2,
        settings=settings("patch"),
        flagged=flagged_planes,
    shell:
        "msdsr patch {input.store} {output.patches} {params.flagged:q}"
        " --settings {params.settings:q} > {log} 2>&1"
