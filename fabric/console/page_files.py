"""The files of the page, read once and kept small: there are few, and no request names any other."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from fabric.errors import UserError

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
}
LEAST_PACKED_BYTES = 512


class _File:
    def __init__(self, file: Path) -> None:
        self.body = file.read_bytes()
        packed = gzip.compress(self.body, mtime=0)
        self.packed = packed if len(self.body) >= LEAST_PACKED_BYTES and len(packed) < len(self.body) else None
        self.etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'
        self.kind = KINDS[file.suffix]


def page_routes(folder: Path = PAGE) -> APIRouter:
    """`/` and each file below the folder that is of a kind that a page is made of. None of them needs a token: there is nothing of the
    fabric in them."""
    routes = APIRouter()
    files = {str(file.relative_to(folder)): _File(file) for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix in KINDS}

    @routes.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index(request: Request) -> Response:
        return _answer(request, files, "index.html")

    @routes.api_route("/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return _answer(request, files, name)

    return routes


def _answer(request: Request, files: dict[str, _File], name: str) -> Response:
    found = files.get(name)
    if found is None:
        raise UserError(f"there is no page /{name}", code="no_such_page", hint="the console is at /")
    headers = {"etag": found.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    is_packed = found.packed is not None and "gzip" in request.headers.get("accept-encoding", "")
    if is_packed:
        headers["content-encoding"] = "gzip"
    return Response(found.packed if is_packed else found.body, media_type=found.kind, headers=headers)
