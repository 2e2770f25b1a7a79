"""Run the `brainage` command: ``python -m brainage``."""

from brainage.cli.start import main

main()
