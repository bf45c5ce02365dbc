"""Write the manual pages into a directory: bounced(1) from the commands themselves, bounced.toml(5) from the settings, and
bounced-protocols(7) from docs/PROTOCOLS.md. usage: manpages.py DIRECTORY
"""

import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from bounced import __version__, config
from bounced.cli import cli
from bounced.settings import Config

DOCS = Path(__file__).resolve().parents[1] / "docs"


def escaped(text: str) -> str:
    """Return text as roff shows it: backslashes, hyphens that can be copied, no line that begins a request."""
    text = (
        text.replace("\\", "\\e")
        .replace("-", "\\-")
        .replace("'", "\\(aq")
        .replace("^", "\\(ha")
        .replace("~", "\\(ti")
        .replace("`", "\\(ga")
    )
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def inline(text: str) -> str:
    """Return a paragraph of Markdown: code and emphasis in bold, links as their text."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*|(?<![\w*])\*[^*\s][^*]*\*(?![\w*]))", text)
    # Odd parts are what stands between marks.
    return "".join(f"\\fB{escaped(part.strip('`*'))}\\fP" if number % 2 else escaped(part) for number, part in enumerate(parts))


def header(name: str, section: int, title: str) -> Iterator[str]:
    """Give the head of a page."""
    day = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC).date().isoformat()
    yield f'.TH {escaped(name)} {section} "{day}" "bounced {__version__}"'
    yield ".SH NAME"
    yield f"{escaped(name)} \\- {escaped(title)}"


def of_commands() -> Iterator[str]:
    """Give bounced(1)."""
    yield from header("bounced", 1, "take bounces, and tell every mailer whom not to mail")
    yield ".SH SYNOPSIS"
    yield ".B bounced\n[\\fB\\-C\\fP \\fIFILE\\fP] \\fICOMMAND\\fP [\\fIARGUMENT\\fP ...]"
    yield ".SH DESCRIPTION"
    yield escaped(str(cli.help))
    yield ".PP"
    yield "The daemon is started by \\fBbounced serve\\fP; most other commands ask it on its HTTP socket."
    yield ".SH OPTIONS"
    yield from options(cli)
    yield ".SH COMMANDS"
    for name, command in walked(cli):
        usage = " ".join(command.collect_usage_pieces(click.Context(command))).replace("[OPTIONS]", "").strip()
        yield f".SS {escaped(name)} {escaped(usage)}".rstrip()
        yield inline(" ".join(str(command.help).split()))
        yield from options(command)
    yield from section(DOCS / "COMMANDS.md", "EXIT STATUS", r"^Exit codes are .*?\n\n")
    yield ".SH FILES"
    for path, what in (
        ("/etc/bounced/bounced.toml", "The configuration; see bounced.toml(5)."),
        ("/var/lib/bounced/", "The database, the keys, kept mail."),
        ("/run/bounced/", "The sockets; see bounced\\-protocols(7)."),
    ):
        yield f".TP\n.I {escaped(path)}\n{what}"
    yield ".SH ENVIRONMENT"
    yield ".TP\n.B BOUNCED_CONFIG\nThe configuration file, where no \\fB\\-C\\fP names one."
    yield ".SH SEE ALSO"
    yield ".BR bounced.toml (5),\n.BR bounced\\-protocols (7),\n.BR postfix (1),\n.BR systemd.socket (5)"


def walked(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Give every command with its whole name."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from walked(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def options(command: click.Command) -> Iterator[str]:
    """Give the options of a command."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(click.Context(command))):
            yield f".TP\n\\fB{escaped(record[0])}\\fP\n{escaped(record[1])}"


def section(document: Path, title: str, pattern: str) -> Iterator[str]:
    """Give a paragraph of a document as a section."""
    found = re.search(pattern, document.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{document} has no {pattern}"
    yield f".SH {title}"
    yield inline(" ".join(found[0].split()))


def of_settings() -> Iterator[str]:
    """Give bounced.toml(5)."""
    yield from header("bounced.toml", 5, "configuration of the bounce handler")
    yield ".SH DESCRIPTION"
    yield from of_markdown(re.split(r"^## Every setting$", (DOCS / "CONFIGURATION.md").read_text(), flags=re.MULTILINE)[0])
    yield ".SH SETTINGS"
    for name, kind in Config.__annotations__.items():
        yield f".SS [{escaped(name)}]"
        yield escaped(" ".join(str(getattr(kind, "__doc__", None) or "").split())) if isinstance(kind, type) else ""
        for path, setting in config.settings().items():
            if setting.section == name:
                default = "must be given" if setting.default is None else f"default {escaped(setting.default)}"
                yield f".TP\n\\fB{escaped(path)}\\fP ({default})\n{escaped(setting.says)}"
    yield ".SH SEE ALSO\n.BR bounced (1)"


def of_protocols() -> Iterator[str]:
    """Give bounced-protocols(7)."""
    yield from header("bounced-protocols", 7, "how mailers ask the bounce handler")
    yield ".SH DESCRIPTION"
    yield from of_markdown((DOCS / "PROTOCOLS.md").read_text())
    yield ".SH SEE ALSO\n.BR bounced (1)"


def of_markdown(text: str) -> Iterator[str]:
    """Give a document: its first heading is left out, tables become lists of their rows."""
    code = False
    for block in re.split(r"\n{2,}", text.split("\n", 1)[1] if text.startswith("# ") else text):
        lines = block.strip("\n").splitlines()
        if code or (lines and lines[0].startswith("```")):
            # A fence goes to its end, blank lines in it.
            ends = lines[-1].startswith("```") and (code or len(lines) > 1)
            body = lines[(0 if code else 1) : (-1 if ends else None)]
            yield from verbatim(body, begins=not code, ends=ends)
            code = not ends
        elif not lines:
            continue
        elif lines[0].startswith("## "):
            yield f".SH {escaped(lines[0][3:].upper())}"
            yield from of_markdown("\n\n" + "\n".join(lines[1:])) if lines[1:] else ()
        elif lines[0].startswith("### "):
            yield f".SS {escaped(lines[0][4:])}"
        elif lines[0].startswith("|"):
            yield from rows(lines)
        elif all(line.startswith("    ") for line in lines):
            yield from verbatim([line[4:] for line in lines], begins=True, ends=True)
        elif lines[0].startswith("- "):
            for item in re.split(r"\n- ", "\n" + "\n".join(lines))[1:]:
                yield f".IP \\(bu 2\n{inline(' '.join(item.split()))}"
        else:
            yield f".PP\n{inline(' '.join(line.strip() for line in lines))}"
    assert not code


def verbatim(lines: list[str], *, begins: bool, ends: bool) -> Iterator[str]:
    """Give lines as they are."""
    if begins:
        yield ".PP\n.RS 4\n.nf"
    yield "\n".join(escaped(line) or "\\&" for line in lines)
    if ends:
        yield ".fi\n.RE"


def rows(lines: list[str]) -> Iterator[str]:
    """Give a table as a list: the first cell as a term, the others after it, each under the name of its column."""
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    names = cells[0]
    for row in cells[2:]:
        yield f".TP\n{inline(row[0]) or '(none)'}"
        told = [f"{inline(name)}: {inline(cell)}" if name else inline(cell) for name, cell in zip(names[1:], row[1:], strict=False) if cell]
        yield "\n.br\n".join(told) or "\\&"


def main() -> None:
    """Write the three pages."""
    for page, lines in (("bounced.1", of_commands()), ("bounced.toml.5", of_settings()), ("bounced-protocols.7", of_protocols())):
        place = Path(sys.argv[1]) / f"man{page[-1]}"
        place.mkdir(parents=True, exist_ok=True)
        # A heading begins a paragraph by itself.
        text = re.sub(r"^(\.S[HS] .*)\n\.PP$", r"\1", "\n".join(line for line in lines if line), flags=re.MULTILINE)
        (place / page).write_text(f'.\\" Made by packaging/manpages.py.\n{text}\n')


if __name__ == "__main__":
    main()
