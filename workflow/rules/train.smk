# Models that are trained here. A frozen model (`path` in the configuration) has no job.


rule train_model:
    input:
        trainset="results/models/{model}/trainset.zarr",
        index="results/models/{model}/trainset.parquet",
        manifest="results/models/{model}/trainset.json",
        inception=INCEPTION,
    output:
        model=directory("results/models/{model}/model"),
        manifest=ensure("results/models/{model}/model.json", non_empty=True),
    log:
        "results/logs/train/{model}.log",
    benchmark:
        "results/benchmarks/train/{model}.tsv"
    conda:
        "../envs/msdsr.yaml"
    threads: 8
    resources:
        mem_mb=growing(32000),
        runtime=1440,
        gpu=1,
    params:
        algorithm=2,
        settings=model_settings,
        seed=CONFIG.seed,
        work="results/.work/models/{model}/train",
    # The time limit is the budget: training saves and leaves before it, with exit code 75, and the
    # profile's `retries` start it again where it was. `exec`: a shell in between would die of the
    # cluster's SIGTERM at once, and the job with it, before the training is saved.
    shell:
        "exec msdsr train {input.trainset} {output.model} --model {params.settings:q}"
        " --seed {params.seed} --work {params.work} --device auto"
        " --gpus {resources.gpu} --budget-minutes {resources.runtime}"
        " --inception {input.inception:q} > {log} 2>&1"
