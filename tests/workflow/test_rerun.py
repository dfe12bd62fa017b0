"""What runs again after a change, found by running the workflow with a stand-in for the stages."""

import shutil
from pathlib import Path

import pytest
import typer.main
import yaml

REPOSITORY = Path(__file__).parents[2]

STAGES = {
    "phantom": ({"photons": 500.0}, {"phantom_slide", "phantom_slide_with_truth"}),
    "ingest": ({"chunk_yx": 128}, {"ingest_slide"}),
    "patch": ({"smoothing_um": 2.0}, {"patch_slide"}),
    "trainset": ({"min_tissue_fraction": 0.2}, {"trainset_slide", "build_trainset"}),
    "superresolve": ({"eta": 0.5}, {"superresolve_slide", "superresolve_heldout"}),
    "evaluate": ({"crop": 24}, {"evaluate_reference", "evaluate_slide", "evaluate_cohort"}),
    "report": ({"title": "Another"}, {"report_cohort"}),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_project):
    """A project whose workflow has run to its end."""
    project = make_project(tmp_path_factory.mktemp("finished"))
    project.use_standin()
    rows = [("A", "PA", "train"), ("B", "PB", "val"), ("C", "PC", "infer")]
    project.sheet("demo", [sheet_row(*row) for row in rows])
    project.frozen_model()
    project.config(configuration())
    project.run()
    return project


def sheet_row(slide, patient, split):
    truth = f"results/demo/truth/{slide}.ome.zarr" if split == "infer" else ""
    return slide, patient, split, f"results/demo/raw_files/{slide}.tif", truth


def configuration(**changed):
    values = {
        "cohorts": {
            "demo": {
                "sheet": "config/cohorts/demo.tsv",
                "source": "phantom",
                "model": "phantom-tiny",
                "attribution": "Somebody's data, CC0",
            }
        },
        "models": {
            "phantom-tiny": {"path": "resources/models/phantom-tiny"},
            "phantom-short": {"preset": "tiny", "cohorts": ["demo"]},
        },
        "superresolve": {"factors": [2]},
    }
    for section, keys in changed.items():
        values[section] = values.get(section, {}) | keys
    return values


@pytest.fixture
def planned(finished):
    """Plan with a changed configuration, and put everything back."""
    sheet = finished.folder / "config/cohorts/demo.tsv"
    text = sheet.read_text()

    def plan(*arguments, **changed):
        finished.config(configuration(**changed), "changed.yaml")
        return finished.plan("--configfile", "changed.yaml", *arguments)

    yield plan
    sheet.write_text(text)


def test_a_second_run_has_nothing_to_do(finished):
    before = len(finished.commands())
    assert "Nothing to be done" in finished.run()
    assert len(finished.commands()) == before


def test_jobs_may_be_fused_at_any_time(finished):
    assert "Nothing to be done" in finished.run("--dry-run", "--config", "fused=true")


@pytest.mark.parametrize("section", STAGES)
def test_a_changed_section_runs_its_own_stage_again(planned, section):
    keys, rules = STAGES[section]
    plan = planned(**{section: keys})
    # Snakemake names no more than one reason: a job below another says that its input is new.
    assert plan.changed()
    assert plan.changed() <= rules <= plan.rules()
    earlier = list(STAGES)[: list(STAGES).index(section)]
    assert not plan.rules() & {rule for stage in earlier for rule in STAGES[stage][1]}


def test_a_changed_section_leaves_earlier_stages_alone(planned):
    plan = planned(superresolve={"steps": 3})
    assert plan.rules() == {
        "superresolve_slide",
        "superresolve_heldout",
        "evaluate_slide",
        "evaluate_cohort",
        "report_cohort",
    }


def test_another_field_of_held_out_planes_restores_no_volume_again(planned):
    plan = planned(evaluate={"heldout": 128})
    assert "superresolve_heldout" in plan.changed()
    assert "superresolve_slide" not in plan.rules()
    assert "superresolve_heldout" not in planned(evaluate={"heldout": "none"}).rules()


def test_another_factor_runs_alone(planned):
    plan = planned(superresolve={"factors": [2, 4]})
    assert [job["wildcards"] for job in plan.of("superresolve_slide")] == [
        "cohort=demo, slide=C, method=msdsr, factor=4"
    ]
    assert plan.count("evaluate_slide") == 1


def test_another_training_runs_alone(planned):
    short = {"preset": "tiny", "cohorts": ["demo"], "optimiser": {"images": 50}}
    plan = planned(models={"phantom-short": short})
    assert plan.changed() == {"train_model"}
    assert plan.rules() == {"train_model", "report_cohort"}


def test_a_new_slide_to_restore_trains_nothing_again(planned, finished):
    rows = [("A", "PA", "train"), ("B", "PB", "val"), ("C", "PC", "infer"), ("D", "PD", "infer")]
    finished.sheet("demo", [sheet_row(*row) for row in rows])
    plan = planned()
    assert not plan.rules() & {
        "trainset_slide",
        "build_trainset",
        "train_model",
        "evaluate_reference",
    }
    assert plan.count("ingest_slide") == 1
    assert plan.count("superresolve_slide") == 1


def test_a_patient_that_changes_its_split_teaches_again(planned, finished):
    rows = [("A", "PA", "val"), ("B", "PB", "val"), ("C", "PC", "infer")]
    finished.sheet("demo", [sheet_row(*row) for row in rows])
    plan = planned()
    assert "build_trainset" in plan.changed()
    assert not plan.rules() & {"ingest_slide", "trainset_slide"}


def test_a_slide_added_to_learn_from_is_decoded_alone(planned, finished):
    rows = [("A", "PA", "train"), ("B", "PB", "val"), ("C", "PC", "infer"), ("D", "PD", "train")]
    finished.sheet("demo", [sheet_row(*row) for row in rows])
    plan = planned()
    assert [job["wildcards"] for job in plan.of("trainset_slide")] == ["cohort=demo, slide=D"]
    assert plan.count("build_trainset") == plan.count("train_model") == 1


def test_every_command_is_one_that_msdsr_knows(finished):
    from msdsr.cli import app

    for arguments in finished.commands():
        command, names, context = typer.main.get_command(app), list(arguments), None
        while hasattr(command, "resolve_command"):
            context = command.make_context("msdsr", [], parent=context, resilient_parsing=True)
            _, command, names = command.resolve_command(context, names)
        command.make_context("msdsr", names)


def test_results_do_not_depend_on_where_the_clone_lies(finished):
    for arguments in finished.commands():
        assert not any(str(finished.folder) in argument for argument in arguments)
        assert not any(str(REPOSITORY) in argument for argument in arguments)


def test_snakemakes_own_report_is_made(finished, tmp_path):
    finished.snakemake("--report", "report.zip")
    archive = finished.folder / "report.zip"
    shutil.unpack_archive(archive, tmp_path)
    assert list(tmp_path.rglob("index.html"))
    # What is shown, under which category, with which labels and caption: data that its page reads.
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".js", ".json")]
    held = "".join(path.read_text(errors="replace") for path in files)
    for words in (
        *("Cohorts", "Figures", "Slides", "Metrics"),
        *("Overview", "Where to doubt", "Method and provenance"),
        "A figure of the cohort",
        "the verdict on every method",
    ):
        assert words in held, words
    assert yaml.safe_load((finished.folder / "config/config.yaml").read_text())
