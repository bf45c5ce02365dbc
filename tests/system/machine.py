"""A machine of its own: systemd as process 1, in a container over a copy-on-write view of a freshly installed Debian.

For: tests of units and of the package, as an administrator meets them. Never: a network of the outside, or a change of what lies below:
whatever is written goes into memory and is gone at the end. Needs root, systemd-nspawn, and for the first time debootstrap and a mirror.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.system.waiting import until

_BOOTING = 180.0
"""Seconds, on a machine that does other things."""

_BASES = Path(os.environ.get("BOUNCED_DEBOOTSTRAP", "/var/cache/bounced-debootstrap"))
_INSTALLED = ("systemd-sysv", "dbus", "procps", "python3", "postfix")
"""What a small server with Postfix has; whatever else the package needs, it must say itself."""


def debian() -> Path:
    """Return the root of a Debian as it is after its installation, of the release that runs here; it is made once, and kept."""
    (release,) = re.findall(r"^VERSION_CODENAME=(\S+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    base = _BASES / release
    if not base.exists():
        _BASES.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=_BASES))
        making.chmod(0o755)
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(_INSTALLED)}", release, str(making)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, f"debootstrap, exit code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}"
        shutil.rmtree(making / "var" / "cache" / "apt" / "archives", ignore_errors=True)
        making.rename(base)
    return base


class Machine:
    """It runs from `__enter__` to `__exit__`. `package` is what was put into the directory of its root."""

    package: Path

    def __init__(self, base: Path) -> None:
        """Make it of the system whose root is `base`."""
        self._base = base

    def __enter__(self) -> Self:
        """Boot it; returns when systemd says that it is up."""
        self.home = Path(tempfile.mkdtemp(prefix="machine-"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", self.home], check=True)
        for name in ("upper", "work", "root"):
            (self.home / name).mkdir()
        options = f"lowerdir={self._base},upperdir={self.home}/upper,workdir={self.home}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)
        (self.root / "etc" / "machine-id").write_text("uninitialized\n")
        self._log = (self.home / "boot.log").open("wb")
        self._devices: list[str] = []
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", f"--machine=bounced-{os.getpid()}"]
        self._nspawn = subprocess.Popen(
            [*command, f"--directory={self.root}", "--boot", "systemd.unit=multi-user.target"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        until(self._is_up, "the machine to boot", _BOOTING)
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and forget what it had written."""
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._log.close()
        for device in self._devices:
            subprocess.run(["losetup", "--detach", device], check=False)
        for mount in (self.root, self.home):
            subprocess.run(["umount", "--lazy", mount], check=False)
        with contextlib.suppress(OSError):
            self.home.rmdir()

    @property
    def root(self) -> Path:
        """The root of its files."""
        return self.home / "root"

    def inside(self, path: str) -> Path:
        """Return how a path of it is reached from here, also below what it mounted itself."""
        return Path(f"/proc/{self._leader()}/root{path}")

    def run(self, script: str, patience: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run lines of shell in it, as root, to the first that fails, for so many seconds at most."""
        inside = ["nsenter", f"--target={self._leader()}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run(
            [*inside, "bash", "-euo", "pipefail", "-c", f"cd /root\n{script}"],
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
            cwd="/",
            env=environment,
        )

    def tell(self, script: str, patience: float = 300.0) -> str:
        """Run lines that must succeed, in so many seconds; returns what they printed."""
        done = self.run(script, patience)
        assert done.returncode == 0, f"exit {done.returncode} of:\n{script}\n{done.stdout}{done.stderr}{self.journal()}"
        return done.stdout.strip()

    def mount(self, image: Path, path: str) -> None:
        """Mount an image of a file system at a path of it, which keeps owner and mode."""
        device = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=True).stdout.strip()
        self._devices.append(device)
        number = Path(device).stat().st_rdev
        # From here, since it may make no devices itself.
        inside = ["nsenter", f"--target={self._leader()}", "--mount", "bash", "-euc"]
        script = f"mknod /root/disk b {os.major(number)} {os.minor(number)}; mount /root/disk {path}; chown --reference=/root {path}"
        subprocess.run([*inside, script], check=True, cwd="/", timeout=60)

    def journal(self) -> str:
        """Return the last that our units logged."""
        return self.run("journalctl --no-pager -n 60 -u 'bounced*' -u 'postfix*' || true").stdout

    def _leader(self) -> str:
        """Return the process id of its systemd."""
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        return children[0] if children else ""

    def _is_up(self) -> bool:
        assert self._nspawn.poll() is None, (self.home / "boot.log").read_text(errors="replace")
        if not self._leader():
            return False
        return self.run("systemctl is-system-running || true").stdout.strip() in ("running", "degraded")
