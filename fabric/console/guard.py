"""What every request passes before anything is done for it, and the headers of every answer.

Invariants: a request under a host name that is not the console's is refused (a name that an attacker lets point here), and so is one that
another site's page sent; nothing is opened by a cookie; the page loads nothing from elsewhere, and nobody frames it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fabric.api.exchange import Json
from fabric.api.faults import error_json
from fabric.errors import FabricError, RejectedError

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """`hosts`: further names under which the console may be asked. On another address than a loopback, every IP address is taken:
    only a name can be made to point here."""

    def __init__(self, app: ASGIApp, *, host: str, hosts: Collection[str]) -> None:
        self._app = app
        self._names = _LOCAL | {host.lower()} | {name.lower() for name in hosts}
        self._is_open = host not in _LOCAL and not host.startswith("127.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in HEADERS if each[0] not in given)]
            await send(message)

        headers: list[tuple[bytes, bytes]] = scope["headers"]
        # The page itself may be opened by a link that stands elsewhere; what it shows may not be asked for from there.
        sites = _all(headers, b"sec-fetch-site") if scope["path"].startswith("/v1/") else []
        refusal = self._refusal(_all(headers, b"host"), _all(headers, b"origin"), sites)
        await (self._app if refusal is None else Json(error_json(refusal), status_code=403))(scope, receive, guarded)

    def _refusal(self, hosts: list[str], origins: list[str], sites: list[str]) -> FabricError | None:
        if len(hosts) != 1 or not self._is_ours(_name_of(hosts[0])):
            hint = "open the console by the address that `fabric console` prints, or name this host in console.hosts"
            return RejectedError(f"the console is not called {', '.join(hosts) or 'nothing'}", code="foreign_host", hint=hint)
        if any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins) or "cross-site" in sites:
            return RejectedError("this request comes from another site", code="foreign_origin", hint="open the console itself")
        return None

    def _is_ours(self, name: str) -> bool:
        return name in self._names or (self._is_open and _is_ip(name))


def _all(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _name_of(host: str) -> str:
    """Without its port, small letters."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
