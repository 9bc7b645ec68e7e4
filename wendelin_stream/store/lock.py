"""A lock file that one process holds and that names the holder for the others."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from wendelin_stream.errors import Locked
from wendelin_stream.store.fs import FileSystem, write_all

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
HOLDER_BYTES = 400


def take_lock(fs: FileSystem, path: Path, what: str) -> int:
    """Lock the file until its descriptor, which is returned, is closed. Raises Locked, OSError.

    The lock is the kernel's (flock) and dies with the process; the content is for the message only.
    """
    fd = fs.open(path, create=True)
    try:
        if fs.lock(fd):
            write_all(fs, fd, [_this_process().ljust(HOLDER_BYTES).encode()], 0)  # without a truncation, which syncs
            return fd
        holder = fs.pread(fd, HOLDER_BYTES, 0).decode(errors="replace").split()
    except BaseException:
        fs.close(fd)
        raise
    fs.close(fd)
    who = f"process {holder[0]} on host {holder[1]}" if len(holder) > 1 else "another process"
    raise Locked(f"{what} is being written by {who}")


def _this_process() -> str:
    boot = ""
    with contextlib.suppress(OSError):  # systemd's ProcSubset=pid hides it
        boot = BOOT_ID.read_text().strip()
    return f"{os.getpid()} {socket.gethostname()} {boot} "
