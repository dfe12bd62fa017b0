# The missing planes of one slide, by one method, at one factor: in one job, or, for huge slides, in
# parts, a job each on any node, and one more that joins and publishes them. How many is no science:
# `--set-scatter part=4`, or set-scatter in a profile.
scattergather:
    part=1,


rule superresolve_part:
    input:
        volume="results/{cohort}/slides/{slide}/denoised.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/denoised.json",
        patches="results/{cohort}/slides/{slide}/patches.parquet",
        model=model_files,
        calibration=calibration_files,
    output:
        temp(touch("results/.work/{cohort}/{slide}/{method}_{factor}x.parts/{scatteritem}.done")),
    log:
        "results/logs/superresolve/{cohort}/{slide}/{method}_{factor}x.{scatteritem}.log",
    benchmark:
        "results/benchmarks/superresolve/{cohort}/{slide}/{method}_{factor}x.{scatteritem}.tsv"
    conda:
        "../envs/msdsr.yaml"
    threads: 8
    resources:
        mem_mb=memory_for("superresolve"),
        runtime=minutes_for("superresolve", CONFIG.superresolve.samples),
        gpu=gpus_to_restore,
    params:
        algorithm=2,
        settings=superresolve_settings,
        model=model_flags,
        calibration=calibration_flags,
        seed=CONFIG.seed,
        store="results/{cohort}/slides/{slide}/{method}_{factor}x.ome.zarr",
        work="results/.work/{cohort}/{slide}/{method}_{factor}x",
    shell:
        "msdsr superresolve {input.volume} {params.store} --method {wildcards.method}"
        " {params.model:q} {params.calibration:q} --factor {wildcards.factor} --seed {params.seed}"
        " --patches {input.patches} --work {params.work} --settings {params.settings:q}"
        " --part {wildcards.scatteritem} --device auto --gpus {resources.gpu} > {log} 2>&1"


rule superresolve_slide:
    input:
        volume="results/{cohort}/slides/{slide}/denoised.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/denoised.json",
        patches="results/{cohort}/slides/{slide}/patches.parquet",
        model=model_files,
        parts=parts_to_join,
        calibration=calibration_files,
    output:
        store=directory("results/{cohort}/slides/{slide}/{method}_{factor}x.ome.zarr"),
        manifest=ensure("results/{cohort}/slides/{slide}/{method}_{factor}x.json", non_empty=True),
    log:
        "results/logs/superresolve/{cohort}/{slide}/{method}_{factor}x.log",
    benchmark:
        "results/benchmarks/superresolve/{cohort}/{slide}/{method}_{factor}x.tsv"
    wildcard_constraints:
        method=one_of(SINGLE_METHODS),
    group:
        restoring_group
    conda:
        "../envs/msdsr.yaml"
    threads: 8
    resources:
        mem_mb=memory_for("superresolve"),
        runtime=minutes_for("superresolve", CONFIG.superresolve.samples),
        gpu=gpus_of_slide,
    params:
        algorithm=2,
        settings=superresolve_settings,
        model=model_flags,
        calibration=calibration_flags,
        seed=CONFIG.seed,
        work="results/.work/{cohort}/{slide}/{method}_{factor}x",
        finish=finish_flags,
    shell:
        "msdsr superresolve {input.volume} {output.store} --method {wildcards.method}"
        " {params.model:q} {params.calibration:q} --factor {wildcards.factor} --seed {params.seed}"
        " --patches {input.patches} --work {params.work} --settings {params.settings:q}"
        " {params.finish} --device auto --gpus {resources.gpu} > {log} 2>&1"


# With several samples (`superresolve.samples`) the same job makes two stores.
use rule superresolve_slide as superresolve_samples with:
    output:
        store=directory("results/{cohort}/slides/{slide}/{method}_{factor}x.ome.zarr"),
        manifest=ensure("results/{cohort}/slides/{slide}/{method}_{factor}x.json", non_empty=True),
        spread=directory("results/{cohort}/slides/{slide}/{method}_{factor}x_std.ome.zarr"),
        spread_manifest=ensure(
            "results/{cohort}/slides/{slide}/{method}_{factor}x_std.json", non_empty=True
        ),
    wildcard_constraints:
        method=one_of(SAMPLED_METHODS),


rule superresolve_calibration:
    input:
        volume="results/{cohort}/slides/{slide}/denoised.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/denoised.json",
        patches="results/{cohort}/slides/{slide}/patches.parquet",
        model=model_files,
    output:
        table="results/{cohort}/slides/{slide}/{method}_{factor}x_calibration.parquet",
        manifest=ensure(
            "results/{cohort}/slides/{slide}/{method}_{factor}x_calibration.json", non_empty=True
        ),
    log:
        "results/logs/superresolve/{cohort}/{slide}/{method}_{factor}x_calibration.log",
    benchmark:
        "results/benchmarks/superresolve/{cohort}/{slide}/{method}_{factor}x_calibration.tsv"
    wildcard_constraints:
        method=one_of(SAMPLED_METHODS),
    group:
        restoring_group
    conda:
        "../envs/msdsr.yaml"
    threads: 8
    resources:
        mem_mb=memory_for("superresolve"),
        runtime=minutes_for("superresolve"),
        gpu=gpus_to_restore,
    params:
        algorithm=2,
        settings=superresolve_settings,
        model=model_flags,
        seed=CONFIG.seed,
        work="results/.work/{cohort}/{slide}/{method}_{factor}x_calibration",
    shell:
        "msdsr superresolve {input.volume} {output.table} --calibrate"
        " --method {wildcards.method} {params.model:q} --factor {wildcards.factor}"
        " --seed {params.seed} --patches {input.patches} --work {params.work}"
        " --settings {params.settings:q} --device auto > {log} 2>&1"
