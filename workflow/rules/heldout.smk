# Planes that were imaged, restored without being shown: what real slides are judged by, for they
# have no truth. Where a factor leaves out acquired planes itself, its volume is its own test, and
# none of these jobs is needed.


rule superresolve_heldout:
    input:
        volume="results/{cohort}/slides/{slide}/denoised.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/denoised.json",
        patches="results/{cohort}/slides/{slide}/patches.parquet",
        model=model_files,
    output:
        store=directory("results/{cohort}/slides/{slide}/{method}_{factor}x_heldout.ome.zarr"),
        manifest=ensure(
            "results/{cohort}/slides/{slide}/{method}_{factor}x_heldout.json", non_empty=True
        ),
    log:
        "results/logs/superresolve/{cohort}/{slide}/{method}_{factor}x_heldout.log",
    benchmark:
        "results/benchmarks/superresolve/{cohort}/{slide}/{method}_{factor}x_heldout.tsv"
    wildcard_constraints:
        method=one_of(SINGLE_METHODS),
    group:
        heldout_group
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
        seed=CONFIG.seed,
        side=CONFIG.evaluate.heldout,
        work="results/.work/{cohort}/{slide}/{method}_{factor}x_heldout",
    shell:
        "msdsr superresolve {input.volume} {output.store} --held-out {params.side}"
        " --method {wildcards.method} {params.model:q} --factor {wildcards.factor}"
        " --seed {params.seed} --patches {input.patches} --work {params.work}"
        " --settings {params.settings:q} --device auto > {log} 2>&1"


# With several samples (`superresolve.samples`) the same job makes two stores.
use rule superresolve_heldout as superresolve_heldout_samples with:
    output:
        store=directory("results/{cohort}/slides/{slide}/{method}_{factor}x_heldout.ome.zarr"),
        manifest=ensure(
            "results/{cohort}/slides/{slide}/{method}_{factor}x_heldout.json", non_empty=True
        ),
        spread=directory("results/{cohort}/slides/{slide}/{method}_{factor}x_heldout_std.ome.zarr"),
        spread_manifest=ensure(
            "results/{cohort}/slides/{slide}/{method}_{factor}x_heldout_std.json", non_empty=True
        ),
    wildcard_constraints:
        method=one_of(SAMPLED_METHODS),
