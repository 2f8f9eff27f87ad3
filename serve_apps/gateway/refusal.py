"""A replica's answer that is an error, in its own words."""

from __future__ import annotations

from urllib.parse import unquote

from serve_apps.gateway.replica_connection import Reply

_BY_HTTP = {400: 3, 401: 16, 403: 7, 404: 5, 413: 8, 429: 8, 501: 12, 503: 14, 504: 4}


class ReplicaRefusal(Exception):
    """Told to the caller as it is. `grpc`, `http`: the status in both; `retry_after`: seconds, or empty."""

    def __init__(self, message: str, *, grpc: int = 13, http: int = 500, code: str = "", retry_after: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.grpc = grpc
        self.http = http
        self.code = code
        self.retry_after = retry_after


def checked(reply: Reply) -> Reply:
    """The reply, if it is a protobuf message and no error. Raises: ReplicaRefusal."""
    told = reply.header(b"grpc-status")
    if reply.status == 200 and told in (None, b"0"):
        return reply
    message = unquote(_text(reply, b"grpc-message"))
    raise ReplicaRefusal(
        message or f"the replica answered with status {reply.status}",
        grpc=int(told) if told is not None and told.isdigit() else _BY_HTTP.get(reply.status, 13),
        http=reply.status if reply.status >= 400 else 500,
        code=_text(reply, b"fabric-code"),
        retry_after=_text(reply, b"retry-after"),
    )


def _text(reply: Reply, name: bytes) -> str:
    return (reply.header(name) or b"").decode("latin-1")
