"""torchrun for a training that is told to stop: SIGTERM passes it by, and it dies with its parent.

A cluster sends SIGTERM to every process of a job. `msdsr.train.launch` and the ranks take it as the
wish to stop; torchrun itself would begin to end the ranks, and print a traceback. A process that
is killed leaves its children behind, and ranks without a parent would go on writing into a work
folder that the next attempt believes to be its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "MSDSR_PARENT"
"""Environment variable with the process id of the parent to die with."""

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent is gone; other systems cannot be asked."""
    if sys.platform == "linux" and PARENT in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ[PARENT]):
            sys.exit("train: the process that started this one is gone")
        os.environ[PARENT] = str(os.getpid())


def main(arguments: list[str]) -> None:
    """Run torchrun with its arguments."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    from torch.distributed.run import get_args_parser
    from torch.distributed.run import main as torchrun

    option = "--signals-to-handle"  # unknown to older versions, which then end with a traceback
    if option in get_args_parser().format_help():
        arguments = [f"{option}=SIGINT,SIGHUP,SIGQUIT", *arguments]
    torchrun(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
