"""Brings a file into the page cache ahead of its use, in the order of its bytes.

`MADV_POPULATE_READ` over a mapping of one's own: one pass of the kernel's readahead, no copy to user space, and where all of it is
there already only a walk. Measured for 256 MiB on a virtual disk: 170 ms cold and 3 ms warm, where `posix_fadvise(WILLNEED)` took
370 and 9, and four reading threads 330 and 50.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy

_MADV_POPULATE_READ = 22
"""Source: Linux 5.14, include/uapi/asm-generic/mman-common.h."""
_STEP_BYTES = 32 * 2**20
_libc = ctypes.CDLL(None, use_errno=True)


def read_ahead(files: Iterable[Path]) -> threading.Thread:
    """Start to bring the files in, one after the other, on a thread that ends by itself."""
    thread = threading.Thread(target=_populate_all, args=(tuple(files),), name="read-ahead", daemon=True)
    thread.start()
    return thread


def _populate_all(files: tuple[Path, ...]) -> None:
    for file in files:
        try:
            populate(file)
        except OSError:  # whoever opens the file for its content tells what is wrong with it
            continue


def populate(file: Path) -> None:
    """Return when all of the file is in the page cache, or the kernel has been told to read it. Raises: OSError."""
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if size == 0:
            return
        with mmap.mmap(opened.fileno(), size, prot=mmap.PROT_READ) as mapped:
            view = numpy.frombuffer(mapped, dtype=numpy.uint8)
            start = view.ctypes.data
            del view  # a mapping that is looked at cannot be closed
            for offset in range(0, size, _STEP_BYTES):
                length = min(_STEP_BYTES, size - offset)
                if _libc.madvise(ctypes.c_void_p(start + offset), ctypes.c_size_t(length), _MADV_POPULATE_READ) != 0:
                    os.posix_fadvise(opened.fileno(), offset, size - offset, os.POSIX_FADV_WILLNEED)
                    return
