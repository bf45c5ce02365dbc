"""The machine that the daemon runs on: keys, disk, clock, database, and who may open its sockets.

For: `bounced doctor`. Never: a change of anything, or a name server.
"""

import ctypes
import os
import pwd
import shutil
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bounced.doctor import Finding, failure, ok, skipped, warning
from bounced.settings import Config

_OLD_KEY = 400 * 86_400
_DAYS_TO_RENEW = 14
_TIME_ERROR = 5
_LEAST_FREE, _LOW_FREE = 64 << 20, 1 << 30
LONG_LOG = 25_000_000
"""Octets of the write-ahead log that only a read without an end brings about; the alert BouncedLogHeld has the same number."""
_MAILERS = {"postfix": ("policy", "socketmap"), "Debian-exim": ("line",), "exim": ("line",)}
"""Users of mailers, and the sockets that their recipes in docs/PROTOCOLS.md use."""


def examined(config: Config) -> Iterator[Finding]:
    """Look at all of it."""
    yield from _keys(config.return_path.key_file)
    yield from _certificate(config.smtp.tls_certificate)
    yield from _disk(config.store.database.parent)
    yield _clock()
    yield _database(config.store.database)
    yield from _sockets(config)
    yield from _chroot(config)


def _keys(file: Path) -> Iterator[Finding]:
    try:
        found = file.stat()
    except FileNotFoundError:
        restore = "if it had been there, restore it from the backup, or every bounce on its way is refused"
        yield failure("keys", f"{file} is missing", f"It is made at the first start; {restore}.")
        return
    except PermissionError:
        yield skipped("keys", f"may not look at {file}; ask as root")
        return
    if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        yield failure("keys", f"others can read or write {file}", f"chmod 0600 {file}, then `bounced rotate-key` and reload.")
    days = int(time.time() - found.st_mtime) // 86_400
    if days * 86_400 > _OLD_KEY:
        yield warning("keys", f"the newest key is {days} days old", "`bounced rotate-key`, then `systemctl reload bounced`; keep a backup.")
    else:
        yield ok("keys", f"the newest key is {days} days old")


def _certificate(file: Path | None) -> Iterator[Finding]:
    """Look how long the certificate for STARTTLS is valid."""
    if file is None:
        return
    try:
        # Of the chain in the file this reads the first certificate, which is ours; the module that does so has no public name.
        ends = ssl.cert_time_to_seconds(ssl._ssl._test_decode_cert(str(file))["notAfter"])  # type: ignore[attr-defined]
    except PermissionError:
        yield skipped("certificate", f"may not read {file}; ask as root")
        return
    except (OSError, ValueError) as error:
        yield failure("certificate", f"{file} cannot be read: {error}", "Correct smtp.tls_certificate; senders get no STARTTLS.")
        return
    days = int(ends - time.time()) // 86_400
    if days < 0:
        yield failure("certificate", f"{file} ended {-days} days ago", "Renew it, then `systemctl reload bounced`.")
    elif days < _DAYS_TO_RENEW:
        yield warning("certificate", f"{file} ends in {days} days", "Renew it, then `systemctl reload bounced`.")
    else:
        yield ok("certificate", f"{file} ends in {days} days")


def _disk(directory: Path) -> Iterator[Finding]:
    try:
        found, nodes = shutil.disk_usage(directory), os.statvfs(directory)
    except OSError as error:
        yield failure("disk", f"{directory}: {error.strerror}", "It must exist, and belong to the daemon's user.")
        return
    free = f"{found.free >> 20} MiB of {found.total >> 20} MiB are free in {directory}"
    if found.free < _LEAST_FREE:
        yield failure("disk", free, "Make room: bounces are put off with 4xx when the disk is full.")
    elif found.free < _LOW_FREE or found.free < found.total // 50:
        yield warning("disk", free, "Make room, or move store.database to a larger disk.")
    else:
        yield ok("disk", free)
    if nodes.f_files and nodes.f_favail < 1000:
        yield failure("disk", f"only {nodes.f_favail} more files can be made in {directory}", "Remove files: there are no inodes left.")


def _clock() -> Finding:
    # adjtimex(2) without a change: whether something keeps the clock right.
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    if state == _TIME_ERROR:
        return warning("clock", "nothing keeps it right", "Install chrony or systemd-timesyncd: return paths expire by the clock.")
    return ok("clock", "synchronized") if state >= 0 else skipped("clock", "the system does not tell")


def _database(file: Path) -> Finding:
    try:
        modified = file.stat().st_mtime
    except FileNotFoundError:
        return failure("database", f"{file} is missing", "It is made at the first start; if it had been there, restore the newest backup.")
    except PermissionError:
        return skipped("database", f"may not look at {file}; ask as root")
    if modified > time.time() + 60:
        return failure(
            "database", f"{file} was written in the future", "The clock was set back: set it right, for return paths have times."
        )
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size > LONG_LOG:
        return warning(
            "database",
            f"{log} has {log.stat().st_size >> 20} MiB: some program reads the database and does not end",
            f"`fuser {file}` names who does; end that program, for at 40 MiB bounces are put off.",
        )
    return ok("database", f"{file}, {file.stat().st_size >> 10} KiB")


def _sockets(config: Config) -> Iterator[Finding]:
    """Try each socket as the mailers' users: the mode of every directory on the way counts too."""
    for user, doors in _MAILERS.items():
        try:
            who = pwd.getpwnam(user)
        except KeyError:
            continue
        if os.geteuid() != 0:
            yield skipped(f"sockets as {user}", "ask as root")
            continue
        for door in doors:
            place: Path | None = getattr(config.query, door)
            if place is None:
                continue
            wrong = _connected_as(who, place)
            if wrong:
                do = (
                    f"usermod -aG bounced-query {user}, and restart it."
                    if "ermission" in wrong
                    else "`systemctl status bounced*.socket` tells."
                )
                yield failure(f"{door} as {user}", f"{place}: {wrong}", do)
            else:
                yield ok(f"{door} as {user}", f"{place} can be opened")


def _connected_as(who: pwd.struct_passwd, place: Path) -> str:
    """Connect as another user, in a child; return what is wrong, or nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        try:
            os.initgroups(who.pw_name, who.pw_gid)
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(2)
                probe.connect(str(place))
        except OSError as error:
            said = (error.strerror or type(error).__name__).encode()
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        said = told.read()
    os.waitpid(child, 0)
    return said.decode()


def _chroot(config: Config) -> Iterator[Finding]:
    """A chrooted smtpd sees no /run/bounced, and goes on unasked."""
    postconf = shutil.which("postconf", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if postconf is None or config.query.policy is None:
        return

    def told(*words: str) -> str:
        return subprocess.run([postconf, *words], capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603 - Postfix' own

    if str(config.query.policy) not in told("smtpd_recipient_restrictions", "smtpd_relay_restrictions"):
        yield skipped("chroot of postfix", f"its main.cf does not ask at {config.query.policy}")
    elif told("-hF", "smtp/inet/chroot").strip() == "n":
        yield ok("chroot of postfix", "smtpd sees the socket")
    else:
        do = "postconf -F smtp/inet/chroot=n, or ask at unix:bounced/policy.sock (bounced-postfix-policy.socket); then restart Postfix."
        yield failure("chroot of postfix", f"smtpd runs in a chroot that has no {config.query.policy}, and mails unasked", do)
