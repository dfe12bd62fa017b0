# The missing planes of one slide, by one method, at one factor.


rule superresolve_slide:
    input:
        volume="results/{cohort}/slides/{slide}/denoised.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/denoised.json",
        model=model_files,
    output:
        store=directory("results/{cohort}/slides/{slide}/{method}_{factor}x.ome.zarr"),
        manifest=ensure("results/{cohort}/slides/{slide}/{method}_{factor}x.json", non_empty=True),
    log:
        "results/logs/superresolve/{cohort}/{slide}/{method}_{factor}x.log",
    benchmark:
        "results/benchmarks/superresolve/{cohort}/{slide}/{method}_{factor}x.tsv"
    conda:
        "../envs/msdsr.yaml"
    threads: 8
    resources:
        mem_mb=growing(16000),
        runtime=480,
        gpu=gpus_to_restore,
    params:
        algorithm=2,
        settings=superresolve_settings,
        model=model_flags,
        seed=CONFIG.seed,
        work="results/.work/{cohort}/{slide}/{method}_{factor}x",
    shell:
        "msdsr superresolve {input.volume} {output.store} --method {wildcards.method}"
        " {params.model:q} --factor {wildcards.factor} --seed {params.seed}"
        " --work {params.work} --settings {params.settings:q} --device auto > {log} 2>&1"
