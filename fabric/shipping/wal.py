"""SQLite's write-ahead log, read as its file: the pages of committed transactions, and where reading goes on.

Only what SQLite itself would trust counts: the salts of the log's header, an unbroken chain of checksums, and frames up to a
commit. Source: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import functools
import os
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

HEADER_BYTES, FRAME_BYTES = 32, 24
_MAGIC = {0x377F0682: "<u4", 0x377F0683: ">u4"}
_READ_FRAMES = 512
_MASK = 0xFFFFFFFF
Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Header:
    """`order`: of the words that are summed, as numpy writes it. `sums`: where the chain of checksums begins."""

    order: str
    page_bytes: int
    salts: Sums
    sums: Sums

    def follows(self, earlier: Header) -> bool:
        """Whether the log was begun anew exactly once since `earlier`: SQLite then counts the first salt up by one."""
        return self.salts[0] == (earlier.salts[0] + 1) & _MASK and self.page_bytes == earlier.page_bytes


@dataclass(frozen=True, slots=True)
class Place:
    """How far a log was read: up to `offset` (bytes), where the chain of checksums was at `sums`."""

    offset: int
    sums: Sums


@dataclass(slots=True)
class Change:
    """What commits wrote: the newest bytes of each page, by its number (from 1), and how many pages the database had behind
    them; 0: nothing was committed."""

    pages: dict[int, bytes] = field(default_factory=dict)
    num_pages: int = 0

    def add(self, later: Change) -> None:
        if later.num_pages:
            self.pages.update(later.pages)
            self.num_pages = later.num_pages

    def __bool__(self) -> bool:
        return self.num_pages > 0


def read_header(log: int) -> Header | None:
    """Of an open log; None: it has none yet, or one that is just being written."""
    raw = os.pread(log, HEADER_BYTES, 0)
    if len(raw) < HEADER_BYTES:
        return None
    magic, _version, page_bytes, _count, salt1, salt2, sum1, sum2 = struct.unpack(">8I", raw)
    order = _MAGIC.get(magic)
    if order is None or _chain(np.frombuffer(raw[:24], order)[None, :], (0, 0)) != [(sum1, sum2)]:
        return None
    # 65,536 does not fit the field of the database's header; here it does, but 1 was written by early releases.
    return Header(order, 65536 if page_bytes == 1 else page_bytes, (salt1, salt2), (sum1, sum2))


def beginning(header: Header) -> Place:
    return Place(HEADER_BYTES, header.sums)


def is_still(log: int, header: Header, place: Place) -> bool:
    """Whether the last frame that was read is still the one that was read: a writer that died before its commit counted is
    overwritten by the next."""
    if place.offset == HEADER_BYTES:
        return True
    raw = os.pread(log, FRAME_BYTES, place.offset - FRAME_BYTES - header.page_bytes)
    return len(raw) == FRAME_BYTES and struct.unpack(">6I", raw)[2:] == (*header.salts, *place.sums)


class Read(NamedTuple):
    """What was committed behind a place, where that ends, and whether that was all: a transaction that is still being written is left
    for later."""

    change: Change
    place: Place
    is_all: bool


def read_committed(log: int, header: Header, place: Place, *, most_frames: int | None = None) -> Read:
    """`most_frames`: stop at the first commit behind so many, as there may be writers who are as fast."""
    found, begun = Change(), Change()
    frame_bytes = FRAME_BYTES + header.page_bytes
    start_offset, offset, sums = place.offset, place.offset, place.sums
    while True:
        raw = os.pread(log, _READ_FRAMES * frame_bytes, offset)
        count = len(raw) // frame_bytes
        if count == 0:
            return Read(found, place, True)
        frames = np.frombuffer(raw, np.uint8, count * frame_bytes).reshape(count, frame_bytes)
        fields = np.ascontiguousarray(frames[:, :FRAME_BYTES]).view(">u4").tolist()
        summed = np.concatenate((frames[:, :8], frames[:, FRAME_BYTES:]), axis=1).view(header.order)
        for index, here in enumerate(_chain(summed, sums)):
            number, num_pages, *known = fields[index]
            if known != [*header.salts, *here] or number == 0:
                return Read(found, place, True)
            sums = here
            start = index * frame_bytes + FRAME_BYTES
            begun.pages[number] = raw[start : start + header.page_bytes]
            offset += frame_bytes
            if num_pages:
                begun.num_pages = num_pages
                found.add(begun)
                begun, place = Change(), Place(offset, sums)
                if most_frames is not None and offset - start_offset >= most_frames * frame_bytes:
                    return Read(found, place, False)


def _chain(words: npt.NDArray[np.uint32], sums: Sums) -> list[Sums]:
    """SQLite's checksum behind each row of `words` (uint32[rows, n], n even), each going on from the row before.

    Its recurrence, s0 += x[i] + s1; s1 += x[i+1] + s0, is linear modulo 2**32: what a row adds is a product with fixed weights.
    """
    carry, weights = _weights(words.shape[1])
    added = (words.astype(np.uint32) @ weights).tolist()
    found = []
    for add0, add1 in added:
        sums = ((carry[0] * sums[0] + carry[1] * sums[1] + add0) & _MASK, (carry[2] * sums[0] + carry[3] * sums[1] + add1) & _MASK)
        found.append(sums)
    return found


@functools.cache
def _weights(num_words: int) -> tuple[tuple[int, int, int, int], npt.NDArray[np.uint32]]:
    """What `num_words` words do to the sums before them (a matrix, by rows), and the weight of each word in each sum."""
    weights = np.zeros((num_words, 2), np.uint32)
    a, b, c, d = 1, 0, 0, 1  # the powers of [[1, 1], [1, 2]]
    for index in range(num_words - 2, -2, -2):
        weights[index] = (a + b) & _MASK, (c + d) & _MASK
        weights[index + 1] = b, d
        a, b, c, d = (a + b) & _MASK, (a + 2 * b) & _MASK, (c + d) & _MASK, (c + 2 * d) & _MASK
    return (a, b, c, d), weights
