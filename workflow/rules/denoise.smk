# The hand-off to a denoiser.


rule denoise_slide:
    input:
        store="results/{cohort}/slides/{slide}/raw.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/raw.json",
        models=denoiser_files,
    output:
        store=directory("results/{cohort}/slides/{slide}/denoised.ome.zarr"),
        manifest=ensure("results/{cohort}/slides/{slide}/denoised.json", non_empty=True),
    log:
        "results/logs/denoise/{cohort}/{slide}.log",
    benchmark:
        "results/benchmarks/denoise/{cohort}/{slide}.tsv"
    group:
        DENOISED
    conda:
        "../envs/msdsr.yaml"
    threads: 2
    resources:
        mem_mb=memory_for("rscd" if CONFIG.denoise.mode == "rscd" else "denoise"),
        runtime=minutes_for("rscd" if CONFIG.denoise.mode == "rscd" else "denoise"),
        gpu=int(CONFIG.denoise.mode == "rscd"),
    params:
        algorithm=1,
        settings=settings("denoise"),
        denoiser=denoiser_flags,
        work="results/.work/{cohort}/{slide}/denoise",
    shell:
        "msdsr denoise {input.store} {output.store} --work {params.work}"
        " {params.denoiser:q} --settings {params.settings:q} > {log} 2>&1"
