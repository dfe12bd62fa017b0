# What jobs ask for, by the size of their slide. Snakemake asks when it plans, and again before it
# submits a job: by then the slide has been ingested, and its manifest says how large it is.
from pathlib import Path

from msdsr.needs import estimated_mb, memory_mb, minutes, recorded_mb

SIZES = {}


def megabytes_of_slide(wildcards):
    """Return the size of the job's slide: recorded once it is ingested, else estimated."""
    key = wildcards.cohort, wildcards.slide
    if key not in SIZES:
        manifest = f"results/{wildcards.cohort}/slides/{wildcards.slide}/raw.json"
        if (size := recorded_mb(manifest)) is None:
            return estimated_mb(slide_of(wildcards).path)
        SIZES[key] = size
    return SIZES[key]


def megabytes_of_job(wildcards):
    """Return the size of what the job makes: with a factor, so many times the slide's planes."""
    return megabytes_of_slide(wildcards) * int(getattr(wildcards, "factor", 1))


def memory_for(stage):
    """Return a resource function: memory by the slide's size, and more on every further attempt."""
    return lambda wildcards, attempt: memory_mb(stage, megabytes_of_job(wildcards), attempt)


def minutes_for(stage, times=1):
    """Return a resource function: minutes by the slide's size, and more on every further attempt."""
    return lambda wildcards, attempt: minutes(stage, times * megabytes_of_job(wildcards), attempt)


def growing(amount):
    """Return a resource function: as much again on every further attempt."""
    return lambda wildcards, attempt: amount * attempt
