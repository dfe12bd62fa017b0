# A slide that fails does not stop its cohort. The profiles keep going with the others; what is made
# of a whole cohort is then made by a second run that leaves out the slides that failed, and the
# first run still ends with an error (docs/decisions/failed-slides.md).
from msdsr.failures import Failure, failures_path, read_failures, reason_in, write_failures
from msdsr.finish import command_without_failed, run_and_wait


def cohorts_at_work():
    """Return the cohorts that the jobs of this run are about."""
    found = set()
    for job in workflow.dag.needrun_jobs():
        model = job.wildcards.get("model")
        found |= {job.wildcards.get("cohort")}
        found |= set(CONFIG.models[model].cohorts) if model in TRAINED_MODELS else set()
    return [cohort for cohort in COHORTS if cohort in found]


def forget_failures():
    """Every run tries all slides again, and begins without a table of those that failed."""
    if not FINISHING:
        for cohort in cohorts_at_work():
            failures_path("results", cohort).unlink(missing_ok=True)


def failures_of_run():
    """Return the slides whose jobs failed in this run, by cohort: the first failure of each."""
    found = {}
    failed = [job for job in workflow.scheduler.failed]
    members = [one for job in failed for one in (job.jobs if job.is_group() else [job])]
    for job in sorted(members, key=lambda one: one.jobid):
        slide = SLIDES.get(job.wildcards.get("cohort"), {}).get(job.wildcards.get("slide"))
        if slide is None or not job.log:
            continue
        cause, reason = reason_in(str(job.log[0]))
        stage = job.rule.name.split("_")[0]
        row = (slide.slide, slide.patient, slide.split, stage, cause, reason, str(job.log[0]))
        found.setdefault(slide.cohort, {}).setdefault(slide.slide, Failure(*row))
    return found


def note_failures():
    """Add the slides that failed in this run to the tables; return those that are new."""
    new = []
    for cohort, failures in failures_of_run().items():
        path = failures_path("results", cohort)
        known = {failure.slide: failure for failure in read_failures(path)}
        new += [failure for slide, failure in failures.items() if slide not in known]
        rows = failures | known
        write_failures(path, [rows[slide] for slide in SLIDES[cohort] if slide in rows])
        for failure in failures.values():
            print(
                f"msdsr: {cohort}: slide {failure.slide} failed in {failure.stage}:",
                file=sys.stderr,
            )
            print(f"msdsr:   {failure.reason} ({failure.log})", file=sys.stderr)
    return new


def ran_to_its_end():
    """Return whether the run did all that could be done: it was not stopped, and kept going."""
    scheduler = workflow.scheduler
    stopped = scheduler._user_kill or scheduler.running or list(scheduler.open_jobs)
    return workflow.execution_settings.keep_going and not stopped


def asks_for_the_rest():
    """Return whether the run's targets are worth making without the slides that failed."""
    asked = workflow.dag_settings
    forced = asked.forceall or asked.forcetargets or asked.forcerun
    return not forced and not any("/slides/" in str(target) for target in asked.targets)


def finish_without_failed():
    """Note the slides that failed, and make what is made of a whole cohort without them."""
    new = note_failures()
    if not new or not ran_to_its_end() or not asks_for_the_rest():
        return
    print(f"msdsr: the rest is finished without them ({len(new)} slides)", file=sys.stderr)
    given = workflow.config_settings.config_args or []
    run_and_wait(command_without_failed(sys.argv[1:], given))


onstart:
    forget_failures()


onerror:
    finish_without_failed()
