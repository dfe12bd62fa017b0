import os
import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from lab import STARTED, Lab  # noqa: E402
from sandbox import SlurmSandbox, missing_tools  # noqa: E402


def pytest_ignore_collect(collection_path, config):
    """These tests need Slurm and minutes: they run where they are named, as `make cluster` does."""
    named = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    if missing := missing_tools():
        why = f"not on this machine: {', '.join(missing)}; `make cluster` installs them (Debian)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the cluster is stopped all the same
    with SlurmSandbox(tmp_path_factory.mktemp("slurm")) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def clean(slurm):
    """Leave nothing of a test behind that failed half-way: no Snakemake, and no job."""
    yield
    for process in STARTED:
        process.kill()
        process.wait()
    STARTED.clear()
    slurm.cancel_all()


@pytest.fixture
def lab(tmp_path, slurm, standin_path):
    folder = tmp_path / "a lab's clone"
    folder.mkdir()
    return Lab.furnish(folder, slurm, standin_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, slurm, standin_path):
    """A lab whose cohort ran to its report undisturbed. Tests look, and change copies of it."""
    folder = tmp_path_factory.mktemp("whole") / "a lab's clone"
    folder.mkdir()
    lab = Lab.furnish(folder, slurm, standin_path)
    lab.run()
    return lab
