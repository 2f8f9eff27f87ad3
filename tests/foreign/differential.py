"""Sends every request of `cases` to Triton and to our server and tells where the answers differ: status, form of the body, tensors.

Usage: python differential.py TRITON_URL OUR_URL. Prints each difference that `DEVIATIONS` does not explain; exits 1 if there is one.
"""

from __future__ import annotations

import http.client
import json
import struct
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cases import ALL, Case

HEADER = "inference-header-content-length"

_PATHS = "a path may end with a slash"
_UNKNOWN = "statistics of what is unknown are 404; Triton says 400"
_RANGE = "a value that its datatype cannot hold is refused; Triton wraps it, or answers what is no JSON"
_ABSENT = "trace, logging and shared memory are not offered"
DEVIATIONS: dict[str, str] = {
    "GET /v2/": _PATHS,
    "GET /v2/models/add/": _PATHS,
    "GET /v2/models/add/versions/x/ready": "versions need not be numbers: 400, not ready",
    "GET /v2/models/nope/stats": _UNKNOWN,
    "GET /v2/models/add/versions/9/stats": _UNKNOWN,
    "GET /v2/models/a%64d": "paths are decoded, as HTTP has it",
    "HEAD /v2/health/live": "HEAD is answered, as HTTP has it",
    "GET /v2/trace/setting": _ABSENT,
    "GET /v2/logging": _ABSENT,
    "shared memory": _ABSENT,
    "nested wrongly but of the right count": "ragged data are refused; Triton flattens them",
    "data nested 1,000 deep": "data nested more than 32 deep are refused; Triton flattens them",
    "parameters null": "null stands for absent",
    "id null": "null stands for absent",
    "a float too large for float32": _RANGE,
    "NaN": _RANGE,
    "overflow of INT8": _RANGE,
    "overflow of INT32": _RANGE,
    "binary BOOL of 2": _RANGE,
    "binary_data_output, overridden": "as the extension's text says; Triton's code forgets it once outputs are named",
    "binary BYTES that are no text, as JSON": "refused; Triton answers bytes that are no JSON",
    "generate of words": "400; Triton answers an error with 200",
}
"""Case -> why our answer is another one, on purpose. The page docs/conformance.md has them in words."""

MODEL_FAULTS = ("a model that raises",)
"""Cases in which a 500 is right."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def asked(url: str, case: Case) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    try:
        connection.request(case.method, case.path, case.body or None, dict(case.headers))
        reply = connection.getresponse()
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, {}, repr(error).encode())
    finally:
        connection.close()


def readable(answer: Answer) -> Any:
    """What both servers must agree on, without what each may choose: messages, platform names, counters."""
    body, tail = answer.body, b""
    if HEADER in answer.headers:
        size = int(answer.headers[HEADER])
        body, tail = body[:size], body[size:]
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "text/event-stream":
        return [json.loads(line.removeprefix(b"data:")) for line in body.replace(b"\r\n", b"\n").split(b"\n\n") if line]
    if not body:
        return None
    try:
        document = json.loads(body)
    except ValueError:
        return "no JSON"
    return plain(document), tail


def plain(document: Any) -> Any:
    if isinstance(document, list):
        return [plain(each) for each in document]
    if not isinstance(document, dict):
        return document
    if isinstance(document.get("error"), str):
        return "error"
    if "extensions" in document:
        return sorted(document)
    if "model_stats" in document:
        # Later fields of Triton's, which its own clients do not need.
        return [sorted(set(each) - {"memory_usage", "response_stats"}) for each in document["model_stats"]]
    if "max_batch_size" in document:
        return {name: document.get(name) for name in ("name", "max_batch_size")}
    if document.get("datatype") == "FP32" and "data" in document:
        # 0.1 and 0.10000000149011612 are the same float32.
        document = {**document, "data": [struct.unpack("<f", struct.pack("<f", value))[0] for value in document["data"]]}
    return {name: plain(value) for name, value in document.items() if name not in ("platform", "reason")}


def difference(case: Case, theirs: Answer, ours: Answer) -> str:
    """Empty where the answers are as good as equal.

    Where Triton says 500 to what it cannot parse or load, ours is 400 or 404: the specification's word, and the caller's fault.
    """
    if theirs.status == 500 and ours.status in (400, 404) and case.name not in MODEL_FAULTS and readable(ours) == ("error", b""):
        return ""
    if theirs.status != ours.status:
        return f"status {theirs.status} there, {ours.status} here"
    if theirs.status >= 400 and readable(ours) is not None and readable(ours) == ("error", b""):
        return ""
    one, other = readable(theirs), readable(ours)
    if one is None and theirs.status == 200 and theirs.headers.get("content-type") == "text/plain":
        return ""  # Triton answers health without a body
    return "" if one == other else "body"


def compared(triton: str, url: str) -> int:
    """1 where there is a difference that nothing explains."""
    left, stale = 0, set(DEVIATIONS)
    for case in ALL:
        theirs, ours = asked(triton, case), asked(url, case)
        found = difference(case, theirs, ours)
        if found:
            stale.discard(case.name)
        if found and case.name not in DEVIATIONS:
            left += 1
            print(f"✗ {case.name}: {found}\n    Triton {theirs.status} {theirs.body[:300]!r}\n    ours   {ours.status} {ours.body[:300]!r}")
    print(f"{len(ALL)} requests, {left} unexplained differences, {len(DEVIATIONS) - len(stale)} known ones")
    if stale:
        print(f"no longer different: {', '.join(sorted(stale))}")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(compared(sys.argv[1], sys.argv[2]))
