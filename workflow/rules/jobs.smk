# What single jobs are given: flags, products, GPUs and groups, as functions of their wildcards, over
# what common.smk has read.
from msdsr.volume import held_out

# --- flags --------------------------------------------------------------------------------------


def sheet_flags(wildcards):
    """Return `--sheet NAME=SHEET` for each cohort that teaches the job's model."""
    cohorts = CONFIG.models[wildcards.model].cohorts
    return [f"--sheet={cohort}={CONFIG.cohorts[cohort].sheet}" for cohort in cohorts]


def model_flags(wildcards):
    """Return `--model FOLDER` where the job's method needs a model, else nothing."""
    name = restoring_model(wildcards)
    return [] if name is None else [f"--model={folder_of_model(name)}"]


def denoiser_flags(wildcards):
    """Return the models that denoise and the seed of their noise; nothing in mode `none`."""
    flags = [f"--{part}={folder}" for part, folder in denoising_models().items()]
    return flags + [f"--seed={CONFIG.seed}"] if flags else []


def calibration_files(wildcards):
    """Return the calibration of the job's samples, where there are several."""
    if wildcards.method not in SAMPLED_METHODS or not CONFIG.superresolve.calibrate:
        return []
    folder = f"results/{wildcards.cohort}/slides/{wildcards.slide}"
    name = f"{folder}/{wildcards.method}_{wildcards.factor}x_calibration"
    return [f"{name}.parquet", f"{name}.json"]


def calibration_flags(wildcards):
    """Return `--calibration FILE` where the job's samples have one, else nothing."""
    return [f"--calibration={table}" for table in calibration_files(wildcards)[:1]]


def restored_flags(wildcards):
    """Return `--restored METHOD=STORE` for each method of the job's slide and factor."""
    folder = f"results/{wildcards.cohort}/slides/{wildcards.slide}"
    return [f"--restored={m}={folder}/{m}_{wildcards.factor}x.ome.zarr" for m in METHODS]


def held_out_methods(wildcards):
    """Return the methods whose held-out planes are restored by a job of their own.

    Those with a network; not where the factor leaves out planes itself, nor beyond what models
    learn.
    """
    voxel = parse_voxel(slide_of(wildcards).voxel_um)
    plan = held_out(int(wildcards.factor), voxel)
    if CONFIG.evaluate.heldout == "none" or plan.gap == 1 or not plan.learnt:
        return []
    return [method for method in METHODS if method in MODELS[wildcards.cohort]]


def held_out_store(wildcards, method, ending):
    """Return a product of a method's held-out planes."""
    folder = f"results/{wildcards.cohort}/slides/{wildcards.slide}"
    return f"{folder}/{method}_{wildcards.factor}x_heldout{ending}"


def heldout_files(wildcards):
    """Return the stores of held-out planes that a slide is judged by, and their manifests."""
    found = []
    for method in held_out_methods(wildcards):
        for spread in ("", "_std") if method in SAMPLED_METHODS else ("",):
            endings = (f"{spread}.ome.zarr", f"{spread}.json")
            found += [held_out_store(wildcards, method, ending) for ending in endings]
    return found


def heldout_flags(wildcards):
    """Return `--held-out METHOD=STORE` for each method that has such a store."""
    return [
        f"--held-out={method}={held_out_store(wildcards, method, '.ome.zarr')}"
        for method in held_out_methods(wildcards)
    ]


def spread_files(wildcards):
    """Return the standard deviations of the samples of the job's slide and factor."""
    folder = f"results/{wildcards.cohort}/slides/{wildcards.slide}"
    methods = [method for method in METHODS if method in SAMPLED_METHODS]
    return [f"{folder}/{method}_{wildcards.factor}x_std.ome.zarr" for method in methods]


def truth_flags(wildcards):
    """Return `--truth STORE` where the job's slide has a truth, else nothing."""
    truth = slide_of(wildcards).truth
    return [f"--truth={truth}"] if truth else []


def factor_flags(wildcards):
    """Return `--factor F` for each factor of the job's cohort."""
    return [f"--factor={factor}" for factor in FACTORS[wildcards.cohort]]


def curve_flags(wildcards):
    """Return `--curve MODEL=FILE` for each model trained here that the cohort taught or used."""
    return [f"--curve={m}=results/models/{m}/model/metrics.jsonl" for m in models_of(wildcards)]


def attribution_flags(wildcards):
    """Return `--attribution TEXT` where the configuration names source and licence of the data."""
    text = CONFIG.cohorts[wildcards.cohort].attribution
    return [f"--attribution={text}"] if text else []


def flagged_planes(wildcards):
    """Return `--flagged PLANES` where the sample sheet flags planes of the job's slide."""
    planes = slide_of(wildcards).flagged
    return [f"--flagged={planes}"] if planes else []


# --- products and resources ---------------------------------------------------------------------


def cohort_products(cohort):
    """Return what a cohort is for: its report; without slides to superresolve, its volumes."""
    if slides_to_restore(cohort):
        return [f"results/{cohort}/report/index.html"]
    slides = slides_of_splits(cohort, "train", "val", "infer")
    folders = [f"results/{cohort}/slides/{s.slide}" for s in slides]
    return [f"{folder}/{name}.json" for folder in folders for name in ("denoised", "patches")]


def page_of_report(name, title):
    """Return one page as an output, which Snakemake's own report shows under its title."""
    return report(
        f"results/{{cohort}}/report/{name}.html",
        caption="../report/cohort.rst",
        category="Cohorts",
        labels={"cohort": "{cohort}", "page": title},
    )


def gpus_to_restore(wildcards):
    """Return how many GPUs a superresolve job wants: one for a network, none to interpolate."""
    return int(wildcards.method in MODELS[wildcards.cohort])


def parts_to_join(wildcards):
    """Return what the parts of a slide leave behind; nothing when one job does all of it."""
    folder = f"results/.work/{wildcards.cohort}/{wildcards.slide}"
    parts = gather.part(
        f"{folder}/{wildcards.method}_{wildcards.factor}x.parts/{{scatteritem}}.done"
    )
    return parts if len(parts) > 1 else []


def finish_flags(wildcards):
    """Return `--finish` for the job that joins what parts have restored, else nothing."""
    return ["--finish"] if parts_to_join(wildcards) else []


def gpus_of_slide(wildcards):
    """Return how many GPUs the job of a whole slide wants: none to join parts."""
    return 0 if parts_to_join(wildcards) else gpus_to_restore(wildcards)


# --- groups -------------------------------------------------------------------------------------
# With `--config fused=true` a slide is two jobs on a cluster: all up to the restored volume, and all
# that judges it (docs/explanation/scale.md). When a member fails, nothing of its group is kept, so
# what takes long stands at the end of one, or alone; and jobs of a group that could run side by side
# ask for the GPUs of all of them, so no more than one wants a GPU.

PREPARING = "prepare" if FUSED else None
DENOISED = PREPARING if CONFIG.denoise.mode == "none" else None
JUDGING = "judge" if FUSED else None


def networks_of(cohort):
    """Return the methods that restore a cohort with a network."""
    return [method for method in METHODS if method in MODELS[cohort]]


def restoring_group(wildcards):
    """Return the group of a job that restores a slide; none where others would stand beside it."""
    several = len(networks_of(wildcards.cohort)) * len(FACTORS[wildcards.cohort]) > 1
    return None if several or parts_to_join(wildcards) else DENOISED


def heldout_group(wildcards):
    """Return the group of a job that restores held-out planes; see `restoring_group`."""
    return None if len(networks_of(wildcards.cohort)) > 1 else JUDGING
