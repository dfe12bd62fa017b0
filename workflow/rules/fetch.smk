# What comes from outside: the Inception network, and the public example volume.


rule fetch_inception:
    output:
        "results/resources/inception.pt",
    log:
        "results/logs/fetch/inception.log",
    benchmark:
        "results/benchmarks/fetch/inception.tsv"
    localrule: True
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=30,
    params:
        algorithm=1,
    shell:
        "msdsr fetch inception {output} > {log} 2>&1"


rule fetch_blastocyst:
    output:
        raw=files_of_blastocyst("path"),
        truth=directory(files_of_blastocyst("truth")),
    log:
        "results/logs/fetch/blastocyst.log",
    benchmark:
        "results/benchmarks/fetch/blastocyst.tsv"
    localrule: True
    conda:
        "../envs/msdsr.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        algorithm=1,
    shell:
        "msdsr fetch blastocyst --root results/blastocyst > {log} 2>&1"
