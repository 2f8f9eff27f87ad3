"""Makes job ids: UUIDv7 (RFC 9562), unique across fabrics and sorted by the time of submission.

The client makes them, so that a request that is sent again names the same jobs. Invariant: the ids of an array's members follow
from the array's id alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import time

from fabric.job import JobId

SHORT_CHARS = 8
"""So many of the last digits of an id name a job to people: the first ones only tell the minute."""
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_job_id() -> JobId:
    """A new id, from the wall clock and 74 random bits."""
    return _made(time.time_ns() // 1_000_000, os.urandom(10))


def member_id(array_id: JobId, index: int) -> JobId:
    """The id of member `index` of an array; always the same."""
    digest = hashlib.sha256(f"{array_id}/{index}".encode()).digest()
    return _made(int(array_id.replace("-", "")[:12], 16), digest[:10])


def is_job_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def short_id(job_id: str) -> str:
    """What a listing shows of an id, and what a command takes for it: its last digits."""
    return job_id[-SHORT_CHARS:]


def _made(at_ms: int, chance: bytes) -> JobId:
    bits = int.from_bytes(chance, "big")
    high = (bits >> 62) & 0xFFF
    low = bits & (2**62 - 1)
    digits = f"{at_ms & (2**48 - 1):012x}7{high:03x}{(0b10 << 62) | low:016x}"
    return JobId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")
