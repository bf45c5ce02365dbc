"""What memory the daemon takes: idle, under load, and for each connection that only stays, plain and in TLS.

    python -m benchmarks.memory [--connections N] [--secured N] [--messages N]

Prints JSON lines: PSS of the daemon (proc(5), smaps_rollup) as its operator runs it, in KiB. Needs openssl.
"""

import argparse
import asyncio
import json
import resource
import ssl
import sys
import tempfile
from pathlib import Path

import uvloop

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from benchmarks.intake import bounces, certified, send  # noqa: E402
from benchmarks.rounds import pss  # noqa: E402
from tests.system.daemon import Daemon  # noqa: E402


async def stay(daemon: Daemon, count: int, context: ssl.SSLContext | None) -> float:
    """Connect, greet, and return how many KiB each connection took; all leave at the end."""
    before, writers = 0, []
    for number in range(count):
        if number == count // 3:  # what was free before is used up by the first ones
            before = pss(daemon.pid)
        source = f"127.{88 if context else 89}.{number // 40}.1"
        reader, writer = await asyncio.open_connection(*daemon.smtp, local_addr=(source, 0))
        await _greet(reader, writer)
        if context:
            writer.write(b"STARTTLS\r\n")
            await reader.readline()
            await writer.start_tls(context)
            writer.write(b"EHLO x\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass
        writers.append(writer)
    taken = (pss(daemon.pid) - before) / (count - count // 3)
    for writer in writers:
        writer.transport.abort()
    return taken


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"EHLO x\r\n")
    while (await reader.readline())[3:4] == b"-":
        pass


async def under_load(daemon: Daemon, messages: int) -> int:
    """Bring bounces on 50 sessions; return the most that was seen, KiB."""
    most = 0
    sending = asyncio.create_task(send(daemon.smtp, "pipelined", bounces(daemon.signer(), messages), 50))
    while not sending.done():
        most = max(most, pss(daemon.pid))
        await asyncio.wait([sending], timeout=0.1)
    return most


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=3000)
    parser.add_argument("--secured", type=int, default=500)
    parser.add_argument("--messages", type=int, default=10_000)
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as home:
        certified(Path(home))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        settings = {"smtp": {"tls_certificate": "mx.pem"}, "kept": {"archive": ""}}
        daemon = Daemon(Path(home), settings=settings)
        daemon.start()
        try:
            found = {"idle, at the start": float(pss(daemon.pid))}
            found[f"the most under load, {asked.messages} bounces on 50 sessions"] = uvloop.run(under_load(daemon, asked.messages))
            found["idle, after it"] = pss(daemon.pid)
            daemon.stop()
            daemon.start()  # anew: what one crowd leaves free would hide what the next one takes
            found["a plain connection that stays"] = uvloop.run(stay(daemon, asked.connections, None))
            daemon.stop()
            daemon.start()
            found["a connection in TLS that stays"] = uvloop.run(stay(daemon, asked.secured, context))
        finally:
            daemon.stop()
    for what, figure in found.items():
        print(json.dumps({"benchmark": "memory", "what": f"{what}: KiB of PSS", "ours": round(figure, 1)}))


if __name__ == "__main__":
    main()
