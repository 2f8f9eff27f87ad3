"""Decides HAProxy's configuration. It is written once: models and replicas come and go in prepared places, through the runtime socket.

Every version of a model gets a backend `v0`, `v1`, … and every replica a server in it; a map leads from a request's exact path to
a backend. A path that the map does not know goes to the gateway, which knows every model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NUM_BACKENDS = 96
NUM_SERVERS = 32
"""Per backend. What finds no place is served through the gateway."""

_HEAD = """\
global
  stats socket {socket} mode 600 level admin expose-fd listeners
  maxconn {max_connections}
  nbthread {num_threads}
  hard-stop-after 60s
  noreuseport
  tune.bufsize 65536

defaults
  mode http
  timeout connect 2s
  timeout http-request 30s
  timeout http-keep-alive 600s
  timeout client 3600s
  timeout server 3600s
  timeout queue 30s
  balance leastconn
  http-reuse always
  option redispatch 1
  retries 3
  retry-on conn-failure
  http-error status 400 content-type application/json string '{{"error":"this is not HTTP"}}'
  http-error status 502 content-type application/json string '{{"error":"the replica ended while it worked on this request"}}'
  http-error status 503 content-type application/json string '{{"error":"no replica can be reached"}}' hdr Retry-After 1
  http-error status 504 content-type application/json string '{{"error":"the replica did not answer in time"}}'

frontend rest
  bind {bind}
  use_backend %[path,map_str({map},gateway)]

backend gateway
  server gateway {gateway}
"""


@dataclass(frozen=True, slots=True)
class HaproxySettings:
    """`folder` holds the runtime socket and the map; `gateway` is `host:port`."""

    folder: Path
    host: str
    port: int
    gateway: str
    num_threads: int = 2
    max_connections: int = 8_000
    """Each takes two file descriptors."""

    @property
    def socket(self) -> Path:
        return self.folder / "haproxy.sock"

    @property
    def map(self) -> Path:
        return self.folder / "paths.map"


def haproxy_config(settings: HaproxySettings) -> str:
    """The text of `haproxy.cfg`. Source: HAProxy 2.8's configuration manual."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    text = _HEAD.format(
        socket=settings.socket,
        map=settings.map,
        bind=f"{host}:{settings.port}",
        gateway=settings.gateway,
        num_threads=settings.num_threads,
        max_connections=settings.max_connections,
    )
    # A server that refused a connection is passed over by `redispatch`; it is not marked down, since its replica may come back.
    backends = (f"backend v{number}\n  server-template r 1-{NUM_SERVERS} 127.0.0.1:9 disabled\n" for number in range(NUM_BACKENDS))
    return "\n".join((text, *backends))
