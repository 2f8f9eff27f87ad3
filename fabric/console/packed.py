"""Answers as JSON, compressed where they are large and whoever asks takes that: a window of jobs is a tenth of its size then."""

from __future__ import annotations

import gzip
from typing import Any

import pydantic_core
from fastapi import Request
from starlette.responses import Response

LEAST_BYTES = 1024
LEVEL = 4
"""Of gzip: its best takes three times as long for a twentieth less."""


def packed(request: Request, document: Any) -> Response:
    """What is in it is for who asked alone: nobody keeps it."""
    body = pydantic_core.to_json(document, inf_nan_mode="null")
    headers = {"cache-control": "no-store", "vary": "accept-encoding"}
    if len(body) >= LEAST_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["content-encoding"] = gzip.compress(body, LEVEL, mtime=0), "gzip"
    return Response(body, media_type="application/json", headers=headers)
