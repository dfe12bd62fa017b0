"""The whole way on a real Slurm, undisturbed: where each rule runs, and with what."""

import re

from msdsr.needs import TYPICAL_MB, memory_mb

GPU_RULES = {
    "train_model",
    "superresolve_slide",
    "superresolve_heldout",
    "evaluate_reference",
    "evaluate_slide",
}
CPU_RULES = {
    "phantom_slide",
    "phantom_slide_with_truth",
    "ingest_slide",
    "patch_slide",
    "denoise_slide",
    "trainset_slide",
    "build_trainset",
    "evaluate_cohort",
    "report_cohort",
}


def test_a_cohort_comes_out_as_a_report(whole):
    assert "msdsr" in (whole.folder / "results/tiny/report/index.html").read_text()
    assert {job["JobState"] for job in whole.jobs()} == {"COMPLETED"}
    assert whole.count() == {
        "phantom_slide": 2,
        "phantom_slide_with_truth": 1,
        "ingest_slide": 3,
        "patch_slide": 3,
        "denoise_slide": 3,
        "trainset_slide": 2,
        "build_trainset": 1,
        "evaluate_reference": 1,
        "train_model": 1,
        "superresolve_slide": 1,
        "superresolve_heldout": 1,
        "evaluate_slide": 1,
        "evaluate_cohort": 1,
        "report_cohort": 1,
    }


def test_rules_with_a_gpu_run_on_gpu_nodes_and_no_others_do(whole):
    assert {job["Rule"] for job in whole.jobs()} == GPU_RULES | CPU_RULES
    for job in whole.jobs():
        wants_gpu = job["Rule"] in GPU_RULES
        assert job["Partition"] == ("gpu" if wants_gpu else "cpu"), job
        assert job["NodeList"].startswith("gpu" if wants_gpu else "cpu"), job
        assert job.get("TresPerJob", "") == ("gres:gpu:1" if wants_gpu else ""), job
        assert job["NumCPUs"] == "8" or not wants_gpu, job


def test_jobs_carry_the_memory_and_time_that_their_slide_needs(whole, lab):
    jobs = {job["Rule"]: job for job in whole.jobs()}
    assert jobs["train_model"]["TimeLimit"] == "1-00:00:00"
    assert jobs["train_model"]["MinMemoryNode"] == "32000M"
    # Planned for a typical slide, and asked for by the size of this one, of which ingest told.
    planned = re.search(r"^rule patch_slide:.*?mem_mb=(\d+)", lab.run("-n"), re.M | re.S)
    assert int(planned[1]) == memory_mb("patch", TYPICAL_MB) == 800
    (small,) = {job["MinMemoryNode"] for job in whole.jobs() if job["Rule"] == "patch_slide"}
    assert small == f"{memory_mb('patch', 0.1)}M" == "700M"
    assert jobs["superresolve_slide"]["TimeLimit"] == "01:01:00"
    assert all(job["Requeue"] == "1" for job in whole.jobs())
    command = re.search(r"exec msdsr train .*", whole.said())[0]
    assert "--gpus 1 --budget-minutes 1440" in command


def test_a_second_run_has_nothing_to_do(whole):
    before = whole.count()
    assert "Nothing to be done" in whole.run()
    assert whole.count() == before
