"""`python -m worker` is the `inkling` command."""

from worker.cli import main

main()
