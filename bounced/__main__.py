"""`python -m bounced` is the command `bounced`. Never anything else."""

from bounced.cli import main

main()
