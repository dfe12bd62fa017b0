"""`python polling_snakemake.py ARGUMENTS`: Snakemake that looks at its jobs every second.

The Slurm plug-in waits 10 s longer each time that nothing has ended, and no option turns that off:
good manners towards a controller, and minutes of waiting where jobs last seconds.
"""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def sleep(self):
    await asyncio.sleep(1.0)


RemoteExecutor.sleep = sleep
sys.exit(main(sys.argv[1:]))
