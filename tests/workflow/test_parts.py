"""A slide in parts, as Snakemake runs them; the stand-in takes the place of the stages."""


def test_parts_are_run_then_joined_and_nothing_is_left_to_do(project):
    project.use_standin()
    (project.folder / "raw").mkdir()
    (project.folder / "raw/S1.tif").touch()
    project.sheet("c", [("S1", "P1", "infer", "raw/S1.tif", "")])
    project.frozen_model("frozen")
    project.config(
        {
            "cohorts": {"c": {"sheet": "config/cohorts/c.tsv", "model": "frozen"}},
            "models": {"frozen": {"path": "resources/models/frozen"}},
        }
    )
    target = ["results/c/slides/S1/msdsr_2x.json", "--set-scatter", "part=2"]
    project.run(*target)
    calls = [call for call in project.commands() if call[0] == "superresolve"]
    assert sorted(call[call.index("--part") + 1] for call in calls[:2]) == ["1-of-2", "2-of-2"]
    (last,) = calls[2:]
    assert "--part" not in last
    assert "--finish" in last
    assert not list((project.folder / "results/.work").rglob("*.done"))
    assert "Nothing to be done" in project.run(*target, "--dry-run")
