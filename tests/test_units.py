"""The units: they load, they fit the daemon, and they leave it as little as they say (systemd-analyze)."""

import configparser
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bounced.config import settings

_UNITS = Path(__file__).parents[1] / "systemd"
_SOCKETS = sorted(_UNITS.glob("*.socket"))
_SERVICES = sorted(_UNITS.glob("*.service"))
_OF_QUERY = {"socketmap", "policy", "line", "milter", "http"}
"""The doors of `serve --role query`."""


def _read(unit: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser


def _exposure(analyze: str, unit: Path) -> float:
    ran = subprocess.run([analyze, "security", "--offline=yes", "--no-pager", str(unit)], capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", ran.stdout)
    assert found, ran.stdout + ran.stderr
    return float(found[1])


def _verify(analyze: str, directory: Path, unit: str, change: Callable[[str], str] = lambda text: text) -> str:
    for file in (*_SERVICES, *_SOCKETS):
        # The program and the manual are not installed where the tests run.
        text = file.read_text().replace("/usr/bin/bounced", "/bin/true")
        (directory / file.name).write_text(change(text) if file.name == unit else text)
    return subprocess.run([analyze, "verify", "--man=no", str(directory / unit)], capture_output=True, text=True, timeout=60).stderr


@pytest.mark.parametrize("unit", _SERVICES, ids=lambda unit: unit.stem)
def test_exposure_is_at_most_half(unit: Path, need_program: Callable[[str], str]) -> None:
    """Each service is exposed to at most 0.5 of 10."""
    assert _exposure(need_program("systemd-analyze"), unit) <= 0.5


def test_exposure_notices_a_network(need_program: Callable[[str], str], tmp_path: Path) -> None:
    """Control: the same unit with the network of the host is not within the limit."""
    text = (_UNITS / "bounced.service").read_text()
    opened = text.replace("PrivateNetwork=yes", "").replace("IPAddressDeny=any", "").replace("RestrictAddressFamilies=AF_UNIX", "")
    (tmp_path / "bounced.service").write_text(opened)
    assert _exposure(need_program("systemd-analyze"), tmp_path / "bounced.service") > 0.5


@pytest.mark.parametrize("unit", [unit.name for unit in (*_SERVICES, *_SOCKETS)])
def test_unit_verifies(unit: str, need_program: Callable[[str], str], tmp_path: Path) -> None:
    """Systemd has nothing to say against a unit."""
    assert _verify(need_program("systemd-analyze"), tmp_path, unit) == ""


def test_verify_notices_a_mistake(need_program: Callable[[str], str], tmp_path: Path) -> None:
    """Control: a misspelt directive is reported."""
    said = _verify(need_program("systemd-analyze"), tmp_path, "bounced.service", lambda text: text.replace("WatchdogSec", "WatchdgSec"))
    assert "WatchdgSec" in said


@pytest.mark.parametrize("unit", _SOCKETS, ids=lambda unit: unit.stem)
def test_socket_unit_fits_the_configuration(unit: Path) -> None:
    """A socket has the name by which the daemon asks for it, and the place that the configuration has by default."""
    section = _read(unit)["Socket"]
    name = section["FileDescriptorName"]
    assert section["Service"] == ("bounced-query.service" if name in _OF_QUERY or "query" in unit.name else "bounced.service")
    if unit.name == "bounced-postfix-policy.socket":
        assert (section["SocketUser"], section["ListenStream"]) == ("postfix", "/var/spool/postfix/bounced/policy.sock")
        return
    assert unit.name == f"bounced-{'query-' if section['ListenStream'] == '127.0.0.1:9826' else ''}{name}.socket"
    if name == "smtp":
        assert re.findall(r"^ListenStream=(.*)$", unit.read_text(), re.MULTILINE) == ["0.0.0.0:25", "[::]:25"]
        assert settings()["smtp.listen"].default == '["0.0.0.0:25", "[::]:25"]'
        return
    if name == "metrics":
        assert section["ListenStream"].startswith("127.0.0.1:")
        return
    assert section["ListenStream"] == f"/run/bounced/{name}.sock"
    # Who reaches the writer may write anything.
    assert section["SocketMode"] == ("0600" if name == "writer" else "0660")
    if name != "lmtp":
        assert settings()[f"query.{name}"].default == f'"{section["ListenStream"]}"'


def test_every_door_has_a_socket_unit() -> None:
    """Each socket that the configuration knows can be handed over."""
    places = {path: setting.default or "" for path, setting in settings().items() if path.startswith("query.")}
    asked = {path.removeprefix("query.") for path, place in places.items() if place.endswith('.sock"')}
    doors = {"smtp", "lmtp", "metrics", *asked}
    assert {_read(unit)["Socket"]["FileDescriptorName"] for unit in _SOCKETS} == doors


def test_the_two_services_differ_in_their_role_alone() -> None:
    """Each runs its role and wants the sockets of its role; they are confined alike, and reloaded together."""
    takes, answers = (_read(_UNITS / f"{name}.service") for name in ("bounced", "bounced-query"))
    assert takes["Service"]["ExecStart"].endswith("serve --role smtp")
    assert answers["Service"]["ExecStart"].endswith("serve --role query")
    differing = {name for name in takes["Service"] if answers["Service"].get(name) != takes["Service"][name]}
    assert differing == {"ExecStart", "TimeoutStartSec"}
    assert answers["Service"].keys() <= takes["Service"].keys()
    assert takes["Unit"]["PropagatesReloadTo"] == "bounced-query.service"
    assert set(answers["Unit"]["Wants"].split()) == {f"bounced-{name}.socket" for name in _OF_QUERY}
    assert set(takes["Unit"]["Wants"].split()) == {"bounced-query.service", "bounced-smtp.socket", "bounced-writer.socket"}
    for unit in (takes, answers):
        assert unit["Install"]["Also"].split() == unit["Unit"]["Wants"].split()


def test_only_the_daemons_group_may_change_the_list() -> None:
    """The door that releases and blocks is open to the daemon's group; those who may only ask have another."""
    groups = {unit.stem: _read(unit)["Socket"].get("SocketGroup") for unit in _SOCKETS}
    assert groups["bounced-http"] == "bounced"
    assert {groups[f"bounced-{name}"] for name in ("socketmap", "policy", "line", "milter")} == {"bounced-query"}
    users = (_UNITS / "sysusers.d" / "bounced.conf").read_text()
    assert re.findall(r"^[ug] (\S+)", users, re.MULTILINE) == ["bounced", "bounced-query"]


def test_names_do_not_collide_with_sympa() -> None:
    """Sympa's program `bounced` runs as unit sympa-bounced below /usr/lib/sympa: no name of ours is one of its."""
    for file in _UNITS.rglob("*"):
        assert not file.name.startswith("sympa")
    assert _read(_UNITS / "bounced.service")["Service"]["ExecStart"].split()[0] == "/usr/bin/bounced"


def test_reload_is_offered_if_the_daemon_can() -> None:
    """The unit sends HUP for a reload exactly if the daemon takes HUP: else `systemctl reload` would end it."""
    handled = "SIGHUP" in (_UNITS.parent / "bounced" / "daemon" / "serving.py").read_text()
    assert ("ExecReload" in _read(_UNITS / "bounced.service")["Service"]) is handled


def test_peers_keep_their_names() -> None:
    """The daemon sees who asks: user namespaces would hide it (SO_PEERCRED)."""
    assert "PrivateUsers" not in _read(_UNITS / "bounced.service")["Service"]


def test_a_wrong_configuration_is_not_started_again() -> None:
    """A start that cannot succeed (64, 78) is not repeated; any other end is, without limit."""
    unit = _read(_UNITS / "bounced.service")
    assert unit["Service"]["RestartPreventExitStatus"].split() == ["64", "78"]
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
