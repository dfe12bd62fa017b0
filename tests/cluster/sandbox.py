"""A private Slurm on one machine: a real controller, a real daemon for each node, no privileges.

Debian's munge, slurmctld and slurmd run as children of this process. All they keep is below one
folder; nothing under /etc is read or written, and nothing stays when it is stopped.

    with SlurmSandbox(folder) as slurm:
        subprocess.run(["sinfo"], env=slurm.env())

    python tests/cluster/sandbox.py -- sinfo     # one command in a cluster of its own
    python tests/cluster/sandbox.py              # a cluster until Ctrl-C

Tried with Slurm 22.05 (Debian 12).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).with_name("slurm.conf.in")
TOOLS = ("munged", "munge", "slurmctld", "slurmd", "sinfo", "sbatch", "srun", "squeue", "scontrol")
SYSTEM = "/usr/sbin:/sbin"
# slurmd counts device nodes, and takes no ordinary files for GPUs; these exist everywhere.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
SOCKET_PATH = 107  # longest path of a Unix socket (sockaddr_un)


@dataclass(frozen=True)
class Node:
    """A node: what it says it has. `memory` in MB; a GPU is a device node and a number."""

    name: str
    cpus: int = 16
    memory: int = 256_000
    gpus: int = 0
    model: str = ""


NODES = (
    Node("cpu1"),
    Node("cpu2"),
    Node("gpu1", gpus=2, model="h100"),
    Node("gpu2", gpus=2, model="a100"),
)
# Jobs of `urgent` push those of `gpu` back into the queue.
PARTITIONS = """\
PartitionName=cpu Nodes=cpu[1-2] Default=YES MaxTime=7-00:00:00 State=UP PriorityTier=1
PartitionName=long Nodes=cpu[1-2] MaxTime=7-00:00:00 State=UP PriorityTier=1
PartitionName=gpu Nodes=gpu[1-2] MaxTime=7-00:00:00 State=UP PriorityTier=1
PartitionName=urgent Nodes=gpu[1-2] MaxTime=7-00:00:00 State=UP PriorityTier=10
"""


def missing_tools() -> list[str]:
    """Return the programs of Slurm and munge that this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM}"
    return [tool for tool in TOOLS if shutil.which(tool, path=path) is None]


def slurm_version() -> tuple[int, ...]:
    """Return Slurm's version, as (22, 5)."""
    said = subprocess.run(
        ["slurmctld", "-V"],
        env={"PATH": f"{os.environ.get('PATH', '')}:{SYSTEM}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found, said
    return tuple(int(number) for number in found.groups())


def die_with_parent() -> None:
    """In a child: SIGTERM when the parent dies, even of SIGKILL (Linux; PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(condition, what: str, timeout: float = 60.0, interval: float = 0.1) -> None:
    """Wait for a condition; TimeoutError names `what` when it does not come true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {timeout:.0f} s")
        time.sleep(interval)


class SlurmSandbox:
    """A cluster that lives as long as the `with` block.

    Parameters
    ----------
    root
        An empty folder, with a short path: sockets stand in it.
    nodes, partitions
        What the cluster has; `partitions` as lines of slurm.conf.
    kill_wait
        Seconds from SIGTERM to SIGKILL for a job that has to go.
    """

    def __init__(
        self,
        root: Path,
        *,
        nodes: tuple[Node, ...] = NODES,
        partitions: str = PARTITIONS,
        kill_wait: int = 2,
    ):
        self.root = Path(root)
        self.nodes = nodes
        self.partitions = partitions
        self.kill_wait = kill_wait
        self.daemons: dict[str, subprocess.Popen] = {}

    @property
    def conf(self) -> Path:
        return self.root / "etc/slurm.conf"

    @property
    def socket(self) -> Path:
        return self.root / "run/munge.socket"

    def env(self) -> dict[str, str]:
        """Return the environment in which Slurm's commands speak to this cluster."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        path = f"{self.root}/bin:{kept.get('PATH', '')}:{SYSTEM}"
        return kept | {"SLURM_CONF": str(self.conf), "PATH": path}

    def command(self, *argv: str, check: bool = True) -> str:
        """Run a command of Slurm and return what it says."""
        done = subprocess.run(
            argv,
            env=self.env(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stdout}"
        return done.stdout

    # --- configuration ------------------------------------------------------------------------

    def write_configuration(self) -> None:
        if len(f"{self.socket}.lock") > SOCKET_PATH:
            raise ValueError(f"{self.root}: too long a path for the sockets in it")
        for name in ("bin", "etc", "run", "log", "state", "spool"):
            (self.root / name).mkdir(parents=True)
        for folder in (self.root, self.root / "run"):
            folder.chmod(0o755)  # munged refuses others
        controller, *ports = free_ports(1 + len(self.nodes))
        host = socket.gethostname()
        lines, devices = [], ["AutoDetect=off"]
        for node, port in zip(self.nodes, ports, strict=True):
            (self.root / "spool" / node.name).mkdir()
            kind = f":{node.model}" if node.model else ""
            gres = f" Gres=gpu{kind}:{node.gpus}" if node.gpus else ""
            lines.append(
                f"NodeName={node.name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
                f" CPUs={node.cpus} RealMemory={node.memory}{gres}"
            )
            typed = f" Type={node.model}" if node.model else ""
            devices += [
                f"NodeName={node.name} Name=gpu{typed} File={device}"
                for device in DEVICES[: node.gpus]
            ]
        text = TEMPLATE.read_text().format(
            host=host,
            user=getpass.getuser(),
            root=self.root,
            run=self.root / "run",
            controller_port=controller,
            kill_wait=self.kill_wait,
            nodes="\n".join(lines),
            partitions=self.partitions,
        )
        self.conf.write_text(text)
        (self.root / "etc/gres.conf").write_text("\n".join(devices) + "\n")
        # From 23.11 slurmd wants a cgroup tree unless told so; before, it does not know the word.
        cgroups = "CgroupPlugin=disabled\n" if slurm_version() >= (23, 11) else "# none\n"
        (self.root / "etc/cgroup.conf").write_text(cgroups)
        key = self.root / "etc/munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        # Inside a job the plug-in drops every variable SLURM_*, and with it the way to a
        # slurm.conf that is not in /etc/slurm.
        shim = self.root / "bin/srun"
        real = shutil.which("srun", path=f"{os.environ.get('PATH', '')}:{SYSTEM}")
        shim.write_text(f'#!/bin/sh\nSLURM_CONF="{self.conf}" exec {real} "$@"\n')
        shim.chmod(0o755)

    # --- daemons ------------------------------------------------------------------------------

    def spawn(self, name: str, *argv: str) -> None:
        """Start a daemon in the foreground, as a child that dies with us."""
        with (self.root / f"log/{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env(),
                cwd="/",
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon and wait for it."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(how)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def tail(self, lines: int = 25) -> str:
        """Return the ends of the logs."""
        logs = [path for path in sorted((self.root / "log").iterdir()) if path.stat().st_size]
        parts = [
            "\n".join([f"--- {p.name}", *p.read_text(errors="replace").splitlines()[-lines:]])
            for p in logs
        ]
        return "\n".join(parts)

    def await_daemon(self, name: str, ready) -> None:
        def ready_or_dead() -> bool:
            if self.daemons[name].poll() is not None:
                raise RuntimeError(f"{name} died\n{self.tail()}")
            return ready()

        wait_until(ready_or_dead, name)

    def start_controller(self) -> None:
        """Start slurmctld; the nodes and jobs of one that ran before are known to it again."""
        self.spawn("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self.await_daemon(
            "slurmctld", lambda: "is UP" in self.command("scontrol", "ping", check=False)
        )

    def start(self) -> SlurmSandbox:
        if missing := missing_tools():
            raise RuntimeError(f"not on this machine: {', '.join(missing)}")
        self.write_configuration()
        run, etc, log = (self.root / name for name in ("run", "etc", "log"))
        self.spawn(
            "munged", "munged", "--foreground", "--force", f"--key-file={etc}/munge.key",
            f"--socket={self.socket}", f"--pid-file={run}/munged.pid",
            f"--log-file={log}/munged.log", f"--seed-file={run}/munge.seed",
        )  # fmt: skip
        munge = ("munge", "-n", f"--socket={self.socket}")
        self.await_daemon("munged", lambda: self.command(*munge, check=False).startswith("MUNGE"))
        self.start_controller()
        for node in self.nodes:
            self.spawn(f"slurmd-{node.name}", "slurmd", "-D", "-N", node.name, "-f", str(self.conf))
        wait_until(self.is_idle, f"all nodes idle: {self.states()}\n{self.tail()}")
        return self

    def cancel_all(self) -> None:
        """Cancel all jobs and wait until they are gone."""
        if self.jobs_alive():
            self.command("scancel", *self.jobs_alive())
            wait_until(lambda: not self.jobs_alive(), "jobs gone", timeout=30)

    def stop(self) -> None:
        """Cancel what runs, end the daemons, and end what a killed job may have left."""
        with contextlib.suppress(Exception):
            self.cancel_all()
        for name in reversed(list(self.daemons)):
            self.end(name)
        mark = f"SLURM_CONF={self.conf}".encode()
        spared = {os.getpid(), os.getppid()}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (process / "environ").read_bytes().split(b"\0")
                if mark in environment and int(process.name) not in spared:
                    os.kill(int(process.name), signal.SIGKILL)

    def __enter__(self) -> SlurmSandbox:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *raised) -> None:
        self.stop()

    # --- what the cluster says ------------------------------------------------------------------

    def states(self) -> dict[str, str]:
        """Return the nodes' states by name."""
        said = self.command("sinfo", "-h", "-N", "-o", "%N %T", check=False)
        return dict(line.split()[:2] for line in said.splitlines() if len(line.split()) == 2)

    def is_idle(self) -> bool:
        states = self.states()
        return len(states) == len(self.nodes) and set(states.values()) == {"idle"}

    def jobs_alive(self) -> list[str]:
        """Return the ids of jobs that are pending or running."""
        return self.command("squeue", "-h", "-o", "%A").split()

    def jobs(self) -> list[dict[str, str]]:
        """Return all jobs that there were, as `scontrol show job` has them."""
        said = self.command("scontrol", "-o", "show", "job")
        lines = [line for line in said.splitlines() if line.startswith("JobId=")]
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="A private Slurm, for one command or until Ctrl-C."
    )
    parser.add_argument("command", nargs="*")
    command = parser.parse_args().command
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through __exit__
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmSandbox(folder) as slurm:
        print(f"export SLURM_CONF={slurm.conf} PATH={slurm.root}/bin:$PATH:{SYSTEM}", flush=True)
        if command:
            return subprocess.run(command, env=slurm.env(), check=False).returncode
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
