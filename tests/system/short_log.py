"""`bounced` whose log may be a hundredth as long, and that waits less for it: run as `python -m tests.system.short_log -C FILE serve`.

For: tests of what happens when the log is full, without writing 40 MiB first. Never: another change.
"""

from bounced import cli
from bounced.store import files, sqlite

if __name__ == "__main__":
    sqlite.LOG_LIMIT //= 100
    sqlite.CHECKPOINT_AFTER //= 100
    files.WRITE_PATIENCE = 0.1
    cli.main()
