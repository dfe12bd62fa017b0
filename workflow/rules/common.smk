# What the rules share: the configuration, the sample sheets, and small functions
# over them. The sheets are read once; a job looks its slide up in a dict, because
# lookup(query=...) costs milliseconds, and a cohort of 1,129 slides has thousands of jobs.
import hashlib
import json
import re
from collections import namedtuple
from typing import get_args

from snakemake.exceptions import WorkflowError

from msdsr.arguments import parse_voxel
from msdsr.config import RestoringMethod
from msdsr.configfile import check_config
from msdsr.errors import UserError
from msdsr.failures import failures_path, read_failures, teaches
from msdsr.finish import KEY as WITHOUT_FAILED
from msdsr.sheet import read_sheet, refuse_leaks
from msdsr.shipped import model_folder
from msdsr.volume import auto_factor

Slide = namedtuple("Slide", "cohort slide patient path split voxel_um channels truth label flagged")

# How a run goes about it, for `--config` alone: no science, so no part of the configuration, and no
# result depends on it.
FINISHING = bool(config.pop(WITHOUT_FAILED, False))  # leave out the slides of failed.csv
FUSED = bool(config.pop("fused", False))  # on a cluster, two jobs a slide

RESERVED = ("benchmarks", "cohort", "logs", "models", "resources")


def refuse_prefix():
    """Refuse `prefix` and `replace_prefix` of a module: work folders and flags would not follow."""
    paths = workflow.modifier.path_modifier
    if paths is not None and (paths.prefix or paths.modifies_prefixes):
        raise WorkflowError(
            "module: `prefix` or `replace_prefix`; expected neither: results/ is always under the"
            " working directory; rename rules with `use rule * from ... as msdsr_*`, or give each"
            " run a working directory of its own"
        )


def read_configuration():
    """Check the whole configuration, fill in presets and defaults."""
    try:
        return check_config(config, "configuration")
    except UserError as error:
        raise WorkflowError(error.line()) from None


def read_table(cohort):
    """Return a cohort's sample sheet."""
    if cohort in RESERVED:
        raise WorkflowError(f"no cohort can be named {cohort!r}: results/{cohort} is taken")
    try:
        return read_sheet(CONFIG.cohorts[cohort].sheet, check_files=False)
    except UserError as error:
        raise WorkflowError(error.line()) from None


def check_patients(tables):
    """Refuse a patient that teaches a model and judges it, also when the cohorts differ."""
    try:
        for name, model in CONFIG.models.items():
            refuse_leaks(model.cohorts, {c: tables[c] for c in CONFIG.cohorts_of(name)})
    except UserError as error:
        raise WorkflowError(error.line()) from None


def slides_of(cohort, table):
    """Return the slides of a cohort's sample sheet by name, in the sheet's order."""
    return {
        row["slide"]: Slide(
            cohort=cohort,
            slide=row["slide"],
            patient=row["patient"],
            path=row["path"],
            split=row["split"],
            voxel_um=",".join(repr(row[column]) for column in ("z_um", "y_um", "x_um")),
            channels=",".join(row["channels"]),
            truth=row["truth"],
            label=row["class"],
            flagged=",".join(map(str, row["flagged"])),
        )
        for row in table.to_dict("records")
    }


def read_failed(cohort):
    """Return the slides of a cohort that failed, by name; none unless this run leaves them out."""
    if not FINISHING:
        return {}
    try:
        failures = read_failures(failures_path("results", cohort))
    except UserError as error:
        raise WorkflowError(error.line()) from None
    return {failure.slide: failure for failure in failures}


def slides_to_restore(cohort):
    """Return the slides of a cohort that are superresolved."""
    return slides_of_splits(cohort, "infer")


def slides_of_splits(cohort, *splits):
    """Return the slides of a cohort in these splits, without those that failed."""
    failed = FAILED[cohort]
    return [s for s in SLIDES[cohort].values() if s.split in splits and s.slide not in failed]


def read_factors(cohort):
    """Return a cohort's factors, with `auto` as the number that its slides' spacing asks for."""
    factors = set(CONFIG.superresolve.factors)
    slides = slides_to_restore(cohort)
    if "auto" not in factors or not slides:
        return sorted(factors - {"auto"})
    sheet = CONFIG.cohorts[cohort].sheet
    try:
        found = {
            auto_factor(parse_voxel(s.voxel_um), f"{sheet}: slide {s.slide}"): s.slide
            for s in slides
        }
    except UserError as error:
        raise WorkflowError(error.line()) from None
    if len(found) > 1:
        one, other = list(found.items())[:2]
        raise WorkflowError(
            f"{sheet}: factor `auto` is {one[0]} for slide {one[1]} and {other[0]} for slide"
            f" {other[1]}; expected one factor a cohort; put them into cohorts of their own"
        )
    return sorted(factors - {"auto"} | set(found))


def read_models(cohort):
    """Return the models that superresolve a cohort, by the methods that have one."""
    section = CONFIG.cohorts[cohort]
    models = {"msdsr": section.model, **section.baseline_models.model_dump()}
    for method in CONFIG.superresolve.methods:
        if method in models and models[method] is None and slides_to_restore(cohort):
            raise WorkflowError(
                f"superresolve.methods: {method} needs a model of its kind for cohort {cohort};"
                f" name one of `models` in cohorts.{cohort}.baseline_models.{method}"
            )
    return {method: model for method, model in models.items() if model is not None}


refuse_prefix()
CONFIG = read_configuration()
COHORTS = list(CONFIG.cohorts)
TABLES = {cohort: read_table(cohort) for cohort in COHORTS}
check_patients(TABLES)
SLIDES = {cohort: slides_of(cohort, table) for cohort, table in TABLES.items()}
FAILED = {cohort: read_failed(cohort) for cohort in COHORTS}
FACTORS = {cohort: read_factors(cohort) for cohort in COHORTS}
MODELS = {cohort: read_models(cohort) for cohort in COHORTS}
RESTORING_METHODS = get_args(RestoringMethod)
SAMPLED_METHODS = ["msdsr"] if CONFIG.superresolve.samples > 1 else []
SINGLE_METHODS = [method for method in RESTORING_METHODS if method not in SAMPLED_METHODS]
METHODS = list(CONFIG.superresolve.methods)
TRAINED_MODELS = [name for name, model in CONFIG.models.items() if model.path is None]
INCEPTION = CONFIG.evaluate.inception or "results/resources/inception.pt"


def one_of(names):
    """Return a wildcard constraint that matches these names alone; no names match nothing."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def cohorts_from(source):
    """Return the cohorts whose raw files come from this source."""
    return [name for name, cohort in CONFIG.cohorts.items() if cohort.source == source]


# --- slides -------------------------------------------------------------------------------------


def slide_of(wildcards):
    """Return the row of the sample sheet that a job is about."""
    try:
        return SLIDES[wildcards.cohort][wildcards.slide]
    except KeyError:
        sheet = CONFIG.cohorts[wildcards.cohort].sheet
        raise WorkflowError(f"{sheet}: no slide {wildcards.slide!r}") from None


def of_slide(field):
    """Return an input function: one column of the job's slide."""
    return lambda wildcards: getattr(slide_of(wildcards), field)


def slides_in(*splits):
    """Return an input function: the slides of the job's cohort in these splits."""
    return lambda wildcards: slides_of_splits(wildcards.cohort, *splits)


def slides_to_learn_from(wildcards):
    """Return the train and val slides of all cohorts that teach the job's model."""
    cohorts = CONFIG.models[wildcards.model].cohorts
    return [
        s
        for c in cohorts
        for s in SLIDES[c].values()
        if s.split != "infer" and teaches(FAILED[c].get(s.slide))
    ]


def factors_of_cohort(wildcards):
    """Return the factors of the job's cohort."""
    return FACTORS[wildcards.cohort]


def digest(select):
    """Return an input function: a short hash of the sheet's rows that `select` picks.

    It stands in `params`, so that a slide that changes its patient, split or class reruns what
    depends on it, while the sheet as a whole may grow without retraining a model.
    """

    def rows_hash(wildcards):
        rows = sorted((s.cohort, s.slide, s.patient, s.split, s.label) for s in select(wildcards))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    return rows_hash


def truths_of_cohort(wildcards):
    """Return the truths of the job's cohort, of the slides that are restored and have one."""
    return [s.truth for s in slides_to_restore(wildcards.cohort) if s.truth]


def digest_of_failed(wildcards):
    """Return a short hash of the cohort's slides that failed, and why; nothing where none did."""
    failed = sorted(f"{f.slide} {f.stage} {f.reason}" for f in FAILED[wildcards.cohort].values())
    return hashlib.sha256(json.dumps(failed).encode()).hexdigest()[:16] if failed else ""


def phantom_slides(with_truth):
    """Return the names of the phantom cohorts' slides that have a truth, or of those without."""
    slides = [s for cohort in cohorts_from("phantom") for s in SLIDES[cohort].values()]
    return sorted({s.slide for s in slides if bool(s.truth) == with_truth})


def files_of_blastocyst(field):
    """Return the raw files (`path`) or truths (`truth`) that the public example consists of."""
    slides = [s for cohort in cohorts_from("blastocyst") for s in SLIDES[cohort].values()]
    return sorted({getattr(s, field) for s in slides} - {""})


# --- configuration ------------------------------------------------------------------------------


def as_json(section, **narrowed):
    """Return a configuration section as JSON, with some keys narrowed to what one job does."""
    return json.dumps(section.model_dump(mode="json") | narrowed, separators=(",", ":"))


def settings(name):
    """Return an input function: the section as JSON.

    In `params`, so that a change of the section reruns the jobs of its stage, and no others. (A
    plain string would do, but Snakemake would take its braces for wildcards.)
    """
    text = as_json(getattr(CONFIG, name))
    return lambda wildcards: text


def superresolve_settings(wildcards):
    """Return the section for one method and factor: a new factor leaves the others' jobs alone."""
    return as_json(CONFIG.superresolve, factors=[int(wildcards.factor)], methods=[wildcards.method])


def model_settings(wildcards):
    """Return a trained model's section, with its preset filled in."""
    return as_json(CONFIG.models[wildcards.model])


# --- models -------------------------------------------------------------------------------------


def restoring_model(wildcards):
    """Return the model that the job's method restores its cohort with; None if it needs none."""
    return MODELS[wildcards.cohort].get(wildcards.method)


def folder_of_model(name):
    """Return the folder of a model, frozen or trained here."""
    path = CONFIG.models[name].path
    return model_folder(path) if path else f"results/models/{name}/model"


def model_files(wildcards):
    """Return what a superresolve job waits for: the files of its model, if it needs one."""
    name = restoring_model(wildcards)
    if name is None:
        return []
    folder = folder_of_model(name)
    if name in TRAINED_MODELS:
        return [f"results/models/{name}/model.json", folder]
    return files_of_model(folder)


def files_of_model(folder):
    """Return the files of a released model that a job reads."""
    names = ("config.json", "msdsr.json", "diffusion_pytorch_model.safetensors")
    return [f"{folder}/{name}" for name in names]


def denoising_models():
    """Return the folders of the models that denoise, by their part; none in mode `none`."""
    if CONFIG.denoise.mode == "none":
        return {}
    parts = ("prior", "calibrator")
    return {part: folder_of_model(getattr(CONFIG.denoise, part)) for part in parts}


def denoiser_files(wildcards):
    """Return the files of the models that denoise."""
    return [file for folder in denoising_models().values() for file in files_of_model(folder)]


def models_of(wildcards):
    """Return the models trained here that learn from the job's cohort, or superresolve it."""
    used = {model for method, model in MODELS[wildcards.cohort].items() if method in METHODS}
    return [
        name
        for name in TRAINED_MODELS
        if wildcards.cohort in CONFIG.models[name].cohorts or name in used
    ]
