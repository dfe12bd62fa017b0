"""A later cohort, restored by a model that is finished, leaves all others as they are."""

import hashlib

COHORTS = ("first", "second")
SPLITS = ("train", "val", "infer")


def configuration(*cohorts):
    return {
        "cohorts": {
            name: {"sheet": f"config/cohorts/{name}.tsv", "source": "phantom", "model": "frozen"}
            for name in cohorts
        },
        "models": {
            "frozen": {"path": "resources/models/frozen"},
            "taught": {"preset": "tiny", "cohorts": ["first"]},
        },
        "superresolve": {"factors": [2]},
    }


def sheet(project, cohort):
    raw = f"results/{cohort}/raw_files"
    names = {split: f"{cohort}-{split}" for split in SPLITS}
    rows = [(name, f"P-{name}", split, f"{raw}/{name}.tif", "") for split, name in names.items()]
    project.sheet(cohort, rows)


def fingerprints(*folders):
    """Return the hash and the time of change of every file below the folders."""
    return {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_new_cohort_with_a_frozen_model_touches_nothing_of_another(project):
    project.use_standin()
    project.frozen_model("frozen")
    sheet(project, "first")
    project.config(configuration("first"))
    project.run()
    results = project.folder / "results"
    others = (results / "first", results / "models", project.folder / "resources")
    before, earlier = fingerprints(*others), len(project.commands())
    assert results / "first/report/index.html" in before

    sheet(project, "second")
    project.config(configuration(*COHORTS))
    project.run("report_second")

    assert fingerprints(*others) == before
    assert (results / "second/report/index.html").exists()
    new = project.commands()[earlier:]
    assert new
    assert not any(command[0] in ("train", "trainset") for command in new)
    assert not any("results/first" in argument for command in new for argument in command)
    restored = [command for command in new if command[0] == "superresolve"]
    assert all("--model=resources/models/frozen" in command for command in restored)
    assert "Nothing to be done" in project.run()
