# The embedded default data: synthetic tissue under a synthetic microscope. Slides whose row in the
# sample sheet names a truth get the isotropic tissue beside the raw file.


rule phantom_slide:
    output:
        raw="results/{cohort}/raw_files/{slide}.tif",
    log:
        "results/logs/phantom/{cohort}/{slide}.log",
    benchmark:
        "results/benchmarks/phantom/{cohort}/{slide}.tsv"
    wildcard_constraints:
        cohort=one_of(cohorts_from("phantom")),
        slide=one_of(phantom_slides(with_truth=False)),
    group:
        PREPARING
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=60,
    params:
        algorithm=1,
        settings=settings("phantom"),
        seed=CONFIG.seed,
    shell:
        "msdsr phantom slide --cohort {wildcards.cohort} --slide {wildcards.slide}"
        " --settings {params.settings:q} --seed {params.seed}"
        " --raw {output.raw} > {log} 2>&1"


rule phantom_slide_with_truth:
    output:
        raw="results/{cohort}/raw_files/{slide}.tif",
        truth=directory("results/{cohort}/truth/{slide}.ome.zarr"),
    log:
        "results/logs/phantom/{cohort}/{slide}.log",
    benchmark:
        "results/benchmarks/phantom/{cohort}/{slide}.tsv"
    wildcard_constraints:
        cohort=one_of(cohorts_from("phantom")),
        slide=one_of(phantom_slides(with_truth=True)),
    group:
        PREPARING
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=60,
    params:
        algorithm=1,
        settings=settings("phantom"),
        seed=CONFIG.seed,
    shell:
        "msdsr phantom slide --cohort {wildcards.cohort} --slide {wildcards.slide}"
        " --settings {params.settings:q} --seed {params.seed}"
        " --raw {output.raw} --truth {output.truth} > {log} 2>&1"
