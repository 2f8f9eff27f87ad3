"""Answers of the console are compressed for who takes that, and only where it is worth it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from fastapi import Request

from fabric.console.packed import LEAST_BYTES, packed

ROWS = {"nodes": [{"node_id": str(number), "idle": 0.0} for number in range(200)]}


def asking(accepted: str) -> Request:
    return Request({"type": "http", "headers": [(b"accept-encoding", accepted.encode())]})


def test_rows_go_out_small_and_come_back_whole() -> None:
    answer = packed(asking("gzip, deflate, br"), ROWS)
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(answer.body) < len(json.dumps(ROWS)) / 4
    assert json.loads(gzip.decompress(answer.body)) == ROWS


@pytest.mark.parametrize(("accepted", "document"), [("br", ROWS), ("", ROWS), ("gzip", {"total": 0})])
def test_what_is_small_or_for_others_goes_out_as_it_is(accepted: str, document: Any) -> None:
    answer = packed(asking(accepted), document)
    assert "content-encoding" not in answer.headers
    assert json.loads(answer.body) == document
    assert (len(answer.body) >= LEAST_BYTES) == (document is ROWS)


def test_a_cache_between_keeps_both_apart() -> None:
    assert {packed(asking(accepted), ROWS).headers["vary"] for accepted in ("gzip", "")} == {"accept-encoding"}
