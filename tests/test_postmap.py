"""Postfix's own socketmap client against the door: what main.cf can name, and what Postfix makes of the answers."""

import asyncio
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.asking import DEAD, LIVE, consult_over, query_door, with_dead

TEXT = "recipient is on the suppression list (manual, manual, 2026-11-18)"


ASKED = (
    ("access", DEAD, f"550 5.7.1 {TEXT}\n", ""),
    ("access", LIVE, "", ""),
    ("access_news", DEAD, f"550 5.7.1 {TEXT}\n", ""),
    ("access_receipts", LIVE, "", "temporary error: this scope is not declared in the configuration"),
    ("acess", LIVE, "", "temporary error: there is no such map"),
    ("transport", DEAD, f"error:5.7.1 {TEXT}\n", ""),
    ("transport", "*", "", ""),
    ("verpsign", "b+live=remote.test@bounces.example.net", "b+xx+live=remote.test@bounces.example.net\n", ""),
    ("verpsign", LIVE, "", ""),
)


async def test_postfix_reads_the_answers(need_program: Callable[[str], str], tmp_path: Path) -> None:
    """Values, "not found" and faults arrive in Postfix as such; a stream stands after an underscore in the table's name."""
    postmap = need_program("postmap")
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mx.example.net\n")
    async with query_door(await with_dead(consult_over()), tmp_path / "s", "socketmap"):
        for table, key, value, fault in ASKED:
            command = [postmap, "-c", str(tmp_path), "-q", key, f"socketmap:unix:{tmp_path}/s:{table}"]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
            said = re.sub(r"\+[a-z2-7]{23}\+", "+xx+", done.stdout)
            assert (said, done.returncode) == (value, 0 if value else 1), table
            assert fault in done.stderr
            assert ("error" in done.stderr) == bool(fault)
