# Raw files to OME-Zarr.


rule ingest_slide:
    input:
        raw=of_slide("path"),
    output:
        store=directory("results/{cohort}/slides/{slide}/raw.ome.zarr"),
        manifest=ensure("results/{cohort}/slides/{slide}/raw.json", non_empty=True),
    log:
        "results/logs/ingest/{cohort}/{slide}.log",
    benchmark:
        "results/benchmarks/ingest/{cohort}/{slide}.tsv"
    group:
        PREPARING
    conda:
        "../envs/msdsr.yaml"
    threads: 2
    resources:
        mem_mb=memory_for("ingest"),
        runtime=minutes_for("ingest"),
    params:
        algorithm=1,
        settings=settings("ingest"),
        patient=of_slide("patient"),
        voxel_um=of_slide("voxel_um"),
        channels=of_slide("channels"),
        work="results/.work/{cohort}/{slide}/ingest",
    shell:
        "msdsr ingest {input.raw:q} {output.store} --slide {wildcards.slide}"
        " --patient {params.patient} --voxel-um {params.voxel_um}"
        " --channels {params.channels} --work {params.work}"
        " --settings {params.settings:q} > {log} 2>&1"
