"""A disk whose power can be cut: ext4 or xfs on a loop device, shut down without flushing its journal, as xfstests does with godown.

For: showing what was on disk, and not only in the page cache. Never: a disk that lies about its own cache. Needs root.
"""

import fcntl
import os
import struct
import subprocess
from pathlib import Path

_SHUTDOWN = 0x8004587D
"""FS_IOC_SHUTDOWN, _IOR('X', 125, __u32) of linux/fs.h."""
_NO_LOG_FLUSH = 2


_MAKE = {"ext4": ("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-J", "size=4"), "xfs": ("mkfs.xfs", "-q", "-f")}
_MOUNT = {"ext4": "loop", "xfs": "loop,nouuid"}


class Disk:
    """A small disk mounted at `path`, below `home`, with a file system that is `ext4` or `xfs`."""

    def __init__(self, home: Path, kind: str = "ext4") -> None:
        """Make the file system and mount it."""
        self._kind = kind
        self.path = home / "disk"
        self.path.mkdir()
        self._home = home
        self._serial = 0
        with self._image.open("wb") as image:
            image.truncate(320 << 20)  # sparse; xfs is no smaller
        _run(*_MAKE[kind], str(self._image))
        self._mount()

    def cut_power(self) -> None:
        """From this moment nothing more reaches the disk, and whatever is not on it is gone."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def power_up(self) -> None:
        """Mount again what is on the disk; nobody may have a file of it open any more."""
        self.remove()
        before = self._image
        self._serial += 1
        # A copy under a new name: a mount namespace that somebody made meanwhile keeps the dead file system of the old device alive, and
        # the kernel would hand it out again.
        _run("cp", "--sparse=always", str(before), str(self._image))
        before.unlink()
        self._mount()

    def remove(self) -> None:
        """Unmount."""
        _run("umount", str(self.path))

    @property
    def _image(self) -> Path:
        return self._home / f"disk-{self._serial}.img"

    def _mount(self) -> None:
        _run("mount", "-o", _MOUNT[self._kind], str(self._image), str(self.path))
        _run("mount", "--make-private", str(self.path))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
