"""A library that stands between the daemon and its disk, and lets writes and syncs fail while it is told to.

For: a disk that fails and is well again hundreds of times under load; strace is too slow for it. Never: the product's help.
"""

import errno
import mmap
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile unsigned char *fault;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("DISK_FAULTS"), O_RDONLY);
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) fault = page;
    if (file >= 0) close(file);
}

static int fails(int which) {
    if (!fault || !fault[which]) return 0;
    errno = fault[which];
    return 1;
}

#define BETWEEN(which, type, name, declared, given)                      \\
    type name declared {                                                 \\
        static type(*real) declared;                                     \\
        if (!real) real = (type(*) declared)dlsym(RTLD_NEXT, #name);     \\
        return fails(which) ? -1 : real given;                           \\
    }

BETWEEN(0, int, fdatasync, (int file), (file))
BETWEEN(0, int, fsync, (int file), (file))
BETWEEN(1, ssize_t, pwrite, (int file, const void *octets, size_t count, off_t at), (file, octets, count, at))
BETWEEN(1, ssize_t, pwrite64, (int file, const void *octets, size_t count, off64_t at), (file, octets, count, at))
"""

SYNC, WRITE = 0, 1
FAULTS = [(SYNC, errno.EIO), (SYNC, errno.EROFS), (WRITE, errno.EIO), (WRITE, errno.ENOSPC), (WRITE, errno.EROFS)]
"""What a disk may say to a sync or a write."""


class Faults:
    """The library, compiled in `place`, and the switch of its faults."""

    def __init__(self, place: Path) -> None:
        """Compile it. All is well at first."""
        source, self._library, switch = place / "faults.c", place / "faults.so", place / "faults"
        source.write_text(_SOURCE)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", self._library, source, "-ldl"], check=True)
        switch.write_bytes(bytes(4096))
        self._path = switch
        descriptor = os.open(switch, os.O_RDWR)
        self._page = mmap.mmap(descriptor, 4096)
        os.close(descriptor)

    @property
    def environment(self) -> Mapping[str, str]:
        """What loads it into a program."""
        return {"LD_PRELOAD": str(self._library), "DISK_FAULTS": str(self._path)}

    def begin(self, which: int, error: int) -> None:
        """From now on let each sync, or each write, fail with `error`."""
        self._page[which] = error

    def end(self) -> None:
        """Be well again."""
        self._page[:2] = bytes(2)
