"""What the workflow plans, without running anything."""

from pathlib import Path

import pytest

from msdsr.configfile import read_config
from msdsr.fetch.blastocyst import ATTRIBUTION

REPOSITORY = Path(__file__).parents[2]


def test_the_demo_passes_all_eight_stages(demo):
    plan = demo.plan()
    slides, restored = 14, 2
    assert plan.count("phantom_slide") + plan.count("phantom_slide_with_truth") == slides
    assert plan.count("phantom_slide_with_truth") == restored
    for rule in ("ingest_slide", "patch_slide", "denoise_slide"):
        assert plan.count(rule) == slides
    assert plan.count("trainset_slide") == slides - restored
    for rule in ("build_trainset", "train_model", "evaluate_reference", "evaluate_cohort"):
        assert plan.count(rule) == 1
    for rule in ("superresolve_slide", "evaluate_slide"):
        assert plan.count(rule) == 2 * restored
    # At 4×, every second plane of these stacks is left out: the volume is its own test.
    assert [job["wildcards"].split("factor=")[1] for job in plan.of("superresolve_heldout")] == [
        "2"
    ] * restored
    assert plan.count("report_cohort") == 1
    assert plan.count("fetch_inception") == 1


def test_the_real_example_plans(project):
    sheet = REPOSITORY / "config/cohorts/blastocyst.tsv"
    (project.folder / "config/cohorts/blastocyst.tsv").write_text(sheet.read_text())
    plan = project.plan("--configfile", REPOSITORY / "config/example.yaml")
    assert plan.count("fetch_blastocyst") == 1
    assert plan.count("train_model") == 1
    assert plan.count("report_cohort") == 1
    assert plan.count("phantom_slide") == 0


def test_the_real_example_names_its_source():
    config = read_config(REPOSITORY / "config/example.yaml")
    assert config.cohorts["blastocyst"].attribution == ATTRIBUTION


def test_a_cohort_of_1129_slides_plans(project):
    rows = []
    for i in range(1129):
        split = "train" if i < 600 else "val" if i < 700 else "infer"
        rows.append((f"S{i:04}", f"P{i:04}", split, f"raw/S{i:04}.tif", ""))
        (project.folder / "raw").mkdir(exist_ok=True)
        (project.folder / rows[-1][3]).touch()
    project.sheet("large", rows)
    project.frozen_model("frozen")
    project.config(
        {
            "cohorts": {"large": {"sheet": "config/cohorts/large.tsv", "model": "frozen"}},
            "models": {"frozen": {"path": "resources/models/frozen"}},
        }
    )
    plan = project.plan("--quiet", "reason")
    for rule, jobs in [("ingest_slide", 700 - 600 + 429), ("superresolve_slide", 429)]:
        assert plan.count(rule) == jobs
    of_a_slide = [job for job in plan.jobs if "slide=S1128" in job.get("wildcards", "")]
    # ingest, patch, denoise, superresolve, held-out planes, evaluate
    assert len(of_a_slide) == 6


def two_cohorts(project):
    """Cohort `old` taught and uses a model trained here; cohort `new` has a frozen one."""
    rows = [("A", "PA", "train"), ("B", "PB", "val"), ("C", "PC", "infer")]
    for cohort in ("old", "new"):
        project.sheet(cohort, [(*row, f"raw files/{cohort}-{row[0]}.tif", "") for row in rows])
        for row in rows:
            raw = project.folder / f"raw files/{cohort}-{row[0]}.tif"
            raw.parent.mkdir(exist_ok=True)
            raw.touch()
    project.frozen_model("frozen")
    project.config(
        {
            "cohorts": {
                "old": {"sheet": "config/cohorts/old.tsv", "model": "own"},
                "new": {"sheet": "config/cohorts/new.tsv", "model": "frozen"},
            },
            "models": {
                "own": {"preset": "tiny", "cohorts": ["old"]},
                "frozen": {"path": "resources/models/frozen"},
            },
        }
    )
    return project


def test_a_new_cohort_with_a_frozen_model_trains_nothing_and_touches_no_other(project):
    plan = two_cohorts(project).plan("report_new")
    assert not plan.rules() & {"build_trainset", "train_model"}
    assert {job["wildcards"].split(",")[0] for job in plan.jobs if "wildcards" in job} == {
        "cohort=new"
    }
    # Nobody asks for the train slide of this cohort: it teaches no model.
    assert plan.count("ingest_slide") == 2


def test_a_trained_model_is_what_its_cohort_waits_for(project):
    plan = two_cohorts(project).plan("report_old")
    assert plan.count("train_model") == 1
    (job,) = plan.of("superresolve_slide")
    assert "results/models/own/model.json" in job["input"]
    assert "results/models/own/model" in job["input"].split(", ")


def test_a_report_is_also_a_file_to_ask_for(project):
    plan = two_cohorts(project).plan("results/new/report/index.html")
    assert plan.count("report_cohort") == 1


BASELINES = {"ms_unet": "masked", "e2e_unet": "between"}


def with_methods(project, methods, baseline_models, factors=(2,)):
    """The cohort `new` with a frozen model and these methods."""
    two_cohorts(project)
    models = {"frozen": {"path": "resources/models/frozen"}}
    for kind, model in baseline_models.items():
        if model != "frozen":
            models[model] = {"kind": kind, "preset": "tiny", "cohorts": ["new"]}
    cohort = {"sheet": "config/cohorts/new.tsv", "model": "frozen"}
    project.config(
        {
            "cohorts": {"new": cohort | {"baseline_models": baseline_models}},
            "models": models,
            "superresolve": {"methods": methods, "factors": list(factors)},
        }
    )
    return project


def test_every_method_has_its_job_and_its_model(project):
    methods = ["nearest", "linear", "cubic", "msdsr", *BASELINES]
    plan = with_methods(project, methods, BASELINES).plan("report_new")
    jobs = {job["wildcards"].split("method=")[1].split(",")[0]: job
            for job in plan.of("superresolve_slide")}  # fmt: skip
    assert set(jobs) == set(methods)
    for method, model in BASELINES.items():
        assert f"results/models/{model}/model.json" in jobs[method]["input"]
    assert "resources/models/frozen/config.json" in jobs["msdsr"]["input"]
    for method in ("nearest", "linear", "cubic"):
        assert "model" not in jobs[method]["input"]
        assert "gpu=0" in jobs[method]["resources"]
    assert plan.count("train_model") == 2
    (evaluate,) = plan.of("evaluate_slide")
    for method in methods:
        assert f"{method}_2x.ome.zarr" in evaluate["input"]


def test_a_method_without_its_model_is_one_clear_line(project):
    only = {"ms_unet": "masked"}
    said = with_methods(project, ["ms_unet", "e2e_unet"], only).snakemake(
        "--dry-run", "report_new", expect=1
    )
    assert "e2e_unet needs a model of its kind for cohort new; name one" in said
    assert "cohorts.new.baseline_models.e2e_unet" in said
    assert "Traceback" not in said


def test_the_models_of_a_denoiser_are_files_its_jobs_wait_for(project):
    two_cohorts(project)
    for name in ("prior", "calibrator"):
        project.frozen_model(name)
    models = {
        "frozen": {"path": "resources/models/frozen"},
        "clean": {"kind": "rscd_prior", "path": "resources/models/prior"},
        "judge": {"kind": "rscd_calibrator", "path": "resources/models/calibrator"},
    }
    project.config(
        {
            "cohorts": {"new": {"sheet": "config/cohorts/new.tsv", "model": "frozen"}},
            "models": models,
            "denoise": {"mode": "rscd", "prior": "clean", "calibrator": "judge"},
        }
    )
    jobs = project.plan("report_new").of("denoise_slide")
    assert jobs
    for job in jobs:
        assert "resources/models/prior/msdsr.json" in job["input"]
        assert "resources/models/calibrator/msdsr.json" in job["input"]
        assert "gpu=1" in job["resources"]


def test_planes_are_held_out_where_the_factor_shows_all(project):
    methods = ["linear", "msdsr", "ms_unet"]
    with_methods(project, methods, {"ms_unet": "masked"}, factors=(2, 4, 5))
    plan = project.plan("report_new")
    found = {job["wildcards"].split("slide=C, ")[1] for job in plan.of("superresolve_heldout")}
    assert found == {"method=msdsr, factor=2", "method=ms_unet, factor=2"}
    inputs = {job["wildcards"][-1]: job["input"] for job in plan.of("evaluate_slide")}
    assert "msdsr_2x_heldout.ome.zarr" in inputs["2"]
    assert "heldout" not in inputs["4"] + inputs["5"]


def test_several_samples_make_a_second_store_after_a_calibration(project):
    with_methods(project, ["msdsr", "cubic"], {})
    file = project.folder / "config/config.yaml"
    text = file.read_text()
    file.write_text(text.replace("superresolve:", "superresolve:\n  samples: 4"))
    plan = project.plan("report_new")
    (sampled,) = plan.of("superresolve_samples")
    folder = "results/new/slides/C/"
    assert f"{folder}msdsr_2x_std.ome.zarr" in sampled["output"]
    assert f"{folder}msdsr_2x_std.json" in sampled["output"]
    assert f"{folder}msdsr_2x_calibration.parquet" in sampled["input"]
    assert f"--calibration={folder}msdsr_2x_calibration.parquet" in plan.text
    (single,) = plan.of("superresolve_slide")
    assert "method=cubic" in single["wildcards"]
    assert plan.count("superresolve_calibration") == 1
    file.write_text(text.replace("superresolve:", "superresolve:\n  samples: 4\n  calibrate: 0"))
    plan = project.plan("report_new")
    assert plan.count("superresolve_samples") == 1
    assert "--calibration" not in plan.text
    assert plan.count("superresolve_calibration") == 0


def test_an_automatic_factor_becomes_a_number(project):
    plan = with_methods(project, ["cubic"], {}, ["auto", 4]).plan("report_new")
    assert {job["wildcards"] for job in plan.of("superresolve_slide")} == {
        f"cohort=new, slide=C, method=cubic, factor={factor}" for factor in (2, 4)
    }
    sheet = project.folder / "config/cohorts/new.tsv"
    rows = sheet.read_text()
    sheet.write_text(rows.replace("infer\t1\t0.5\t0.5", "infer\t0.5\t0.5\t0.5"))
    said = project.snakemake("--dry-run", expect=1)
    assert "new.tsv: slide C: factor `auto`, but planes are 1 times as far apart" in said
    other = rows.splitlines()[3].replace("C\tPC", "D\tPD").replace("infer\t1", "infer\t2")
    sheet.write_text(f"{rows}{other}\n")
    said = project.snakemake("--dry-run", expect=1)
    assert "`auto` is 2 for slide C and 4 for slide D" in said


def test_a_configfile_replaces_the_default_one(demo):
    demo.config(
        {
            "cohorts": {
                "demo": {
                    "sheet": "config/cohorts/demo.tsv",
                    "source": "phantom",
                    "model": "phantom-tiny",
                }
            },
            "models": {"phantom-tiny": {"path": "resources/models/phantom-tiny"}},
            "superresolve": {"factors": [8]},
        },
        "other.yaml",
    )
    plan = demo.plan("--configfile", "other.yaml")
    assert "train_model" not in plan.rules()
    assert {job["wildcards"].rsplit("=", 1)[1] for job in plan.of("superresolve_slide")} == {"8"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config", "sed=3"], "sed: unknown key"),
        (["--config", "superresolve={factors: [9]}"], "configuration: superresolve.factors"),
        (["--configfile", "reserved.yaml"], "no cohort can be named 'models'"),
        (["--configfile", "nosheet.yaml"], "no such sample sheet"),
    ],
)
def test_a_mistake_is_one_clear_line(demo, arguments, line):
    cohort = {"sheet": "config/cohorts/demo.tsv", "source": "phantom", "model": "phantom-tiny"}
    models = {"phantom-tiny": {"path": "resources/models/phantom-tiny"}}
    demo.config({"cohorts": {"models": cohort}, "models": models}, "reserved.yaml")
    missing = cohort | {"sheet": "config/cohorts/none.tsv"}
    demo.config({"cohorts": {"demo": missing}, "models": models}, "nosheet.yaml")
    said = demo.snakemake("--dry-run", *arguments, expect=1)
    assert line in said
    assert "Traceback" not in said


def test_huge_slides_can_be_restored_in_parts(demo):
    plan = demo.plan("--set-scatter", "part=3", profile="slurm")
    slides = plan.of("superresolve_slide")
    parts = plan.of("superresolve_part")
    assert len(parts) == 3 * len(slides) > 0
    assert all("gpu=1" in job["resources"] for job in parts)
    assert {job["wildcards"].rsplit("=", 1)[1] for job in parts} == {
        "1-of-3", "2-of-3", "3-of-3",
    }  # fmt: skip
    assert all(job["input"].count(".done") == 3 for job in slides)
    assert plan.text.count("--finish --device auto --gpus 0") == len(slides)
    assert plan.text.count("--part 2-of-3 --device auto --gpus 1") == len(slides)


def test_a_released_model_goes_by_its_name(project):
    two_cohorts(project)
    file = project.folder / "config/config.yaml"
    file.write_text(file.read_text().replace("path: resources/models/frozen", "path: frozen"))
    (job,) = project.plan("report_new").of("superresolve_slide")
    assert "resources/models/frozen/config.json" in job["input"]
    file.write_text(file.read_text().replace("path: frozen", "path: phantom-tiny"))
    (job,) = project.plan("report_new").of("superresolve_slide")
    assert "resources/models/phantom-tiny/config.json" in job["input"]
