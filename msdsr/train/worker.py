"""One rank of several; torchrun runs this module, see `msdsr.train.launch`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from msdsr.config import ModelConfig
from msdsr.errors import EXIT_USER_ERROR, UserError
from msdsr.manifest import write_text_atomically
from msdsr.train.distributed import StopRequest, joined
from msdsr.train.launch import STATUS, STOP
from msdsr.train.loop import Job, run
from msdsr.train.torchrun import die_with_parent


def main(description: Path) -> int:
    """Train as the job file says, and write down what became of this rank.

    Returns
    -------
    int
        0 when the training ended or was stopped in good order; 2 after a user's mistake, so that
        torchrun ends the other ranks.
    """
    die_with_parent()
    values = json.loads(description.read_text(encoding="utf-8"))
    work = Path(values["work"])
    model = ModelConfig.model_validate(values["model"])
    inception = Path(values["inception"]) if values["inception"] else None
    job = Job(Path(values["trainset"]), work, model, values["seed"], inception, values["plan"])
    status = work / STATUS / f"{int(os.environ['RANK']):04d}.json"
    with StopRequest(values["deadline"], work / STOP).listening() as stop:
        try:
            with joined(torch.device(values["device"])) as ranks:
                finished = run(job, ranks, stop)
        except UserError as error:
            parts = [error.where, error.found, error.expected, error.fix]
            write_text_atomically(status, json.dumps({"user_error": parts}) + "\n")
            return EXIT_USER_ERROR
    write_text_atomically(status, json.dumps({"finished": finished}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
