"""The command web: what the daemon knows, in a browser on this machine.

For: whoever would rather look and click than type; he may do there what he may do by command. Never: a port that others can reach.
"""

import contextlib
import secrets
from functools import partial
from pathlib import Path

import click

from bounced.cli.base import ask
from bounced.sockets import tcp

PORT = 8525


@click.command("web")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port on 127.0.0.1; 0: any that is free.")
@click.pass_obj
def browse(config_file: Path, port: int) -> None:
    """Show it all in a browser, until Ctrl-C. Prints the address to open; without the key in it nobody sees a page."""
    # Imported late: see running._serve.
    import uvicorn  # noqa: PLC0415

    from bounced.cli.site import pages  # noqa: PLC0415

    key = secrets.token_urlsafe(24)
    listener = tcp("127.0.0.1", port, setting="--port")
    click.echo(f"Open http://127.0.0.1:{listener.getsockname()[1]}/?key={key}\nStop with Ctrl-C.")
    settings = uvicorn.Config(pages(partial(ask, config_file), key), log_level="critical", proxy_headers=False, server_header=False)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(settings).run(sockets=[listener])
