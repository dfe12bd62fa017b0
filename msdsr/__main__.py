"""``python -m msdsr`` is the command line."""

from msdsr.cli import main

main()
