# How good the restored volumes are: features of real planes, metrics of each slide, and the
# cohort's tables. The baselines are interpolated inside `evaluate slide`; they are never stored.


rule evaluate_reference:
    input:
        volumes=collect(
            "results/{item.cohort}/slides/{item.slide}/denoised.ome.zarr",
            item=slides_in("val"),
        ),
        manifests=collect(
            "results/{item.cohort}/slides/{item.slide}/denoised.json",
            item=slides_in("val"),
        ),
        patches=collect(
            "results/{item.cohort}/slides/{item.slide}/patches.parquet",
            item=slides_in("val"),
        ),
        inception=INCEPTION,
    output:
        features="results/{cohort}/reference.npz",
        manifest=ensure("results/{cohort}/reference.json", non_empty=True),
    log:
        "results/logs/evaluate/{cohort}/reference.log",
    benchmark:
        "results/benchmarks/evaluate/{cohort}/reference.tsv"
    conda:
        "../envs/msdsr.yaml"
    threads: 4
    resources:
        mem_mb=growing(8000),
        runtime=240,
    params:
        algorithm=2,
        settings=settings("evaluate"),
        slides=digest(slides_in("val")),
        seed=CONFIG.seed,
        sheet=lookup(dpath="cohorts/{cohort}/sheet", within=config),
        work="results/.work/{cohort}/reference",
    shell:
        "msdsr evaluate reference {output.features} --cohort-sheet {params.sheet:q}"
        " --cohort {wildcards.cohort} --inception {input.inception:q} --seed {params.seed}"
        " --work {params.work} --without-failed --settings {params.settings:q} > {log} 2>&1"


rule evaluate_slide:
    input:
        acquired="results/{cohort}/slides/{slide}/denoised.ome.zarr",
        manifest="results/{cohort}/slides/{slide}/denoised.json",
        patches="results/{cohort}/slides/{slide}/patches.parquet",
        restored=collect(
            "results/{{cohort}}/slides/{{slide}}/{method}_{{factor}}x.ome.zarr",
            method=METHODS,
        ),
        manifests=collect(
            "results/{{cohort}}/slides/{{slide}}/{method}_{{factor}}x.json",
            method=METHODS,
        ),
        spreads=spread_files,
        heldout=heldout_files,
        truth=branch(of_slide("truth"), then=of_slide("truth")),
        reference="results/{cohort}/reference.npz",
        reference_manifest="results/{cohort}/reference.json",
        inception=INCEPTION,
    output:
        metrics=directory("results/{cohort}/slides/{slide}/metrics_{factor}x"),
        manifest=ensure("results/{cohort}/slides/{slide}/metrics_{factor}x.json", non_empty=True),
    log:
        "results/logs/evaluate/{cohort}/{slide}/{factor}x.log",
    benchmark:
        "results/benchmarks/evaluate/{cohort}/{slide}/{factor}x.tsv"
    group:
        JUDGING
    conda:
        "../envs/msdsr.yaml"
    threads: 4
    resources:
        mem_mb=memory_for("evaluate"),
        runtime=minutes_for("evaluate"),
    params:
        algorithm=2,
        settings=settings("evaluate"),
        patient=of_slide("patient"),
        seed=CONFIG.seed,
        restored=restored_flags,
        heldout=heldout_flags,
        truth=truth_flags,
        work="results/.work/{cohort}/{slide}/metrics_{factor}x",
    shell:
        "msdsr evaluate slide {input.acquired} {output.metrics} --slide {wildcards.slide}"
        " --patient {params.patient} --factor {wildcards.factor} --seed {params.seed}"
        " {params.restored:q} {params.heldout:q} --reference {input.reference} --inception {input.inception:q}"
        " --patches {input.patches} {params.truth:q} --work {params.work}"
        " --settings {params.settings:q} > {log} 2>&1"


rule evaluate_cohort:
    input:
        metrics=collect(
            "results/{item.cohort}/slides/{item.slide}/metrics_{factor}x",
            item=slides_in("infer"),
            factor=factors_of_cohort,
        ),
        manifests=collect(
            "results/{item.cohort}/slides/{item.slide}/metrics_{factor}x.json",
            item=slides_in("infer"),
            factor=factors_of_cohort,
        ),
        reference="results/{cohort}/reference.npz",
        reference_manifest="results/{cohort}/reference.json",
    output:
        metrics=report(
            directory("results/{cohort}/metrics"),
            patterns=["{table}.csv"],
            caption="../report/metrics.rst",
            category="Metrics",
            labels={"cohort": "{cohort}", "table": "{table}"},
        ),
        manifest=ensure("results/{cohort}/metrics.json", non_empty=True),
    log:
        "results/logs/evaluate/{cohort}/cohort.log",
    benchmark:
        "results/benchmarks/evaluate/{cohort}/cohort.tsv"
    conda:
        "../envs/msdsr.yaml"
    threads: 2
    resources:
        mem_mb=growing(8000),
        runtime=480,
    params:
        algorithm=2,
        settings=settings("evaluate"),
        slides=digest(slides_in("infer")),
        sheet=lookup(dpath="cohorts/{cohort}/sheet", within=config),
        factors=factor_flags,
    shell:
        "msdsr evaluate cohort {output.metrics} --cohort {wildcards.cohort}"
        " --sheet {params.sheet:q} {params.factors} --reference {input.reference}"
        " --without-failed --settings {params.settings:q} > {log} 2>&1"
