"""Sends every request of `cases` to Triton and to our server and tells where the answers differ: status, form of the body, tensors.

Usage: python differential.py TRITON_URL OUR_URL. Prints each difference that `DEVIATIONS` does not explain; exits 1 if there is one.
"""

from __future__ import annotations

import http.client
import json
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cases import ALL, Case

HEADER = "inference-header-content-length"

DEVIATIONS: dict[str, str] = {}


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
        return [sorted(each) for each in document["model_stats"]]
    left_open = ("platform", "reason")
    kept = {name: value for name, value in document.items() if name not in left_open}
    return {name: plain(value) for name, value in kept.items()}


def difference(case: Case, theirs: Answer, ours: Answer) -> str:
    """Empty where the answers are as good as equal.

    Where Triton says 500 to what it cannot parse, ours is 400: the specification's word, and the caller's fault.
    """
    if theirs.status == 500 and ours.status == 400 and readable(ours) == ("error", b""):
        return ""
    if theirs.status != ours.status:
        return f"status {theirs.status} there, {ours.status} here"
    if theirs.status >= 400 and readable(ours) is not None and readable(ours) == ("error", b""):
        return ""
    one, other = readable(theirs), readable(ours)
    if one is None and theirs.status == 200 and theirs.headers.get("content-type") == "text/plain":
        return ""  # Triton answers health without a body
    return "" if one == other else "body"


def main() -> int:
    left = 0
    for case in ALL:
        theirs, ours = asked(sys.argv[1], case), asked(sys.argv[2], case)
        found = difference(case, theirs, ours)
        if found and case.name not in DEVIATIONS:
            left += 1
            print(f"✗ {case.name}: {found}\n    Triton {theirs.status} {theirs.body[:300]!r}\n    ours   {ours.status} {ours.body[:300]!r}")
    print(f"{len(ALL)} requests, {left} unexplained differences, {len(DEVIATIONS)} known ones")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
