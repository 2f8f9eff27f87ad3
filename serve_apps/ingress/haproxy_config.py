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
  tune.h2.initial-window-size 1048576

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


_GRPC = """
frontend grpc
  bind {bind} proto h2
  acl is_infer path /inference.GRPCInferenceService/ModelInfer
  http-request wait-for-body time 30s at-least 1024 if is_infer
  http-request set-var(txn.model) req.body,bytes(5),protobuf(1) if is_infer
  http-request set-var(txn.version) req.body,bytes(5),protobuf(2) if is_infer
  use_backend %[str(grpc/),concat(,txn.model,/),concat(,txn.version),map_str({map},grpc_gateway)] if is_infer
  default_backend grpc_gateway

backend grpc_gateway
  server gateway {gateway} proto h2
"""
"""A message's name and version are its first fields, behind five bytes of framing; what is found on no map, compressed messages among
it, the gateway knows. Source: HAProxy 2.8's configuration manual, `protobuf` and `wait-for-body`."""


@dataclass(frozen=True, slots=True)
class HaproxySettings:
    """`folder` holds the runtime socket and the map; `gateway` and `grpc_gateway` are `host:port`. `grpc_port` 0: no gRPC here."""

    folder: Path
    host: str
    port: int
    gateway: str
    grpc_port: int = 0
    grpc_gateway: str = ""
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
    if settings.grpc_port:
        text += _GRPC.format(bind=f"{host}:{settings.grpc_port}", map=settings.map, gateway=settings.grpc_gateway)
    # A server that refused a connection is passed over by `redispatch`; it is not marked down, since its replica may come back.
    backends = (f"backend v{number}\n  server-template r 1-{NUM_SERVERS} 127.0.0.1:9 disabled\n" for number in range(NUM_BACKENDS))
    return "\n".join((text, *backends))
