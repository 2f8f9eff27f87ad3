"""Decides HAProxy's configuration. It is written once: models and replicas come and go in prepared places, through the runtime socket.

Every deployment of a model gets a backend `v0`, `v1`, … and every replica a server in it; a map leads from a request's exact path to
a backend. A path that the map does not know goes to the gateway, which knows every model. Where a model's requests are split the map
has all of the split in one value, so that it changes at once, and rules here do the same sums as `directory/choose_version.py`. An arm
other than the default has a backend `a0`, `a1`, … with the default's replicas as its reserve: a new version that dies loses no request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serve_apps.directory.choose_version import USER_HEADER, VERSION_HEADER
from serve_apps.directory.table import WHOLE

NUM_BACKENDS = 96
NUM_SERVERS = 32
"""Per backend. What finds no place is served through the gateway."""
NUM_DOORS = 16
"""Of these, replicas on this machine that are reached by their local doors."""
NUM_ARMS = 16
NUM_RESERVE = 8
MAX_ARMS = 4
"""Of one split; with more of them the gateway splits."""
SPLIT, SPLIT_ONCE = "s:", "o:"
"""How a split's value in the map begins; of `SPLIT_ONCE` no request is sent twice."""

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
  http-request del-header x-shadow
  http-request set-var(txn.to) path,map_str({map},gateway)
  http-request set-var(txn.pin) req.fhdr({version_header})
  http-request set-var(txn.to) path,concat(@,txn.pin),map_str({map},gateway) if {{ var(txn.pin) -m len gt 0 }}
{split}
backend gateway
  server gateway {gateway}
"""

_GRPC = """
frontend grpc
  bind {bind} proto h2
  acl is_infer path /inference.GRPCInferenceService/ModelInfer
  default_backend grpc_gateway
  http-request allow unless is_infer
  http-request del-header x-shadow
  http-request wait-for-body time 30s at-least 1024
  http-request set-var(txn.model) req.body,bytes(5),protobuf(1)
  http-request set-var(txn.version) req.fhdr({version_header})
  http-request set-var(txn.version) req.body,bytes(5),protobuf(2)
  http-request set-var(txn.to) str(grpc/),concat(,txn.model,/),concat(,txn.version),map_str({map},grpc_gateway)
{split}
backend grpc_gateway
  server gateway {gateway} proto h2
"""
"""A message's name and version are its first fields, behind five bytes of framing; what is found on no map, compressed messages among
it, the gateway knows. Source: HAProxy 2.8's configuration manual, `protobuf` and `wait-for-body`."""

_SPLIT = f"""\
  acl is_split var(txn.to) -m beg {SPLIT} {SPLIT_ONCE}
  acl is_user var(txn.user) -m len gt 0
  http-request allow unless is_split
  http-request set-var(txn.user) req.fhdr({USER_HEADER})
  http-request set-var(txn.point) rand({WHOLE}) unless is_user
  http-request set-var(txn.point) var(txn.to),word(2,:),concat(/,txn.user),crc32(1),mod({WHOLE}) if is_user
  http-request disable-l7-retry if {{ var(txn.to) -m beg {SPLIT_ONCE} }}
  use_backend %[var(txn.to)] unless is_split
"""
"""A split is `s:SALT:END:BACKEND:END:BACKEND:…:BACKEND`: a request belongs to the first backend whose end is above its point. Only the
ingress's own replicas mark a request as a shadow copy."""

_ARM = """\
backend a{number}
  retries 6
  retry-on conn-failure empty-response
  option http-buffer-request
  default-server check inter 2s fastinter 250ms downinter 500ms rise 1 fall 3 observe layer4 error-limit 1 on-error mark-down
  server-template r 1-{num_servers} 127.0.0.1:9 disabled
{doors}
  server-template b 1-{num_reserve} 127.0.0.1:9 backup disabled
"""
"""The first connection that a replica refuses marks it down, and the reserve answers where none is left: `redispatch` alone would ask
the same replicas again. Requests that it had in hand are sent again, as far as they fit a buffer of 64 KiB. Six times at most: while the
kernel closes what a killed process had open, each connection of the pool to it may swallow the same request once."""


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
    def doors(self) -> Path:
        """Where every place `v0/u1` of the configuration has its link `v0u1` to a replica's door."""
        return self.folder / "doors"

    @property
    def map(self) -> Path:
        return self.folder / "paths.map"


def haproxy_config(settings: HaproxySettings) -> str:
    """The text of `haproxy.cfg`. Source: HAProxy 2.8's configuration manual."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    given = {"map": settings.map, "version_header": VERSION_HEADER, "split": _SPLIT + "\n".join(_chosen_arm()) + "\n"}
    text = _HEAD.format(
        socket=settings.socket,
        bind=f"{host}:{settings.port}",
        gateway=settings.gateway,
        num_threads=settings.num_threads,
        max_connections=settings.max_connections,
        **given,
    )
    if settings.grpc_port:
        text += _GRPC.format(bind=f"{host}:{settings.grpc_port}", gateway=settings.grpc_gateway, **given)
    # A server that refused a connection is passed over by `redispatch`; it is not marked down, since its replica may come back.
    backends = (
        f"backend v{number}\n  server-template r 1-{NUM_SERVERS} 127.0.0.1:9 disabled\n{_doors(settings, f'v{number}')}\n"
        for number in range(NUM_BACKENDS)
    )
    arms = (
        _ARM.format(number=number, num_servers=NUM_SERVERS, num_reserve=NUM_RESERVE, doors=_doors(settings, f"a{number}"))
        for number in range(NUM_ARMS)
    )
    return "\n".join((text, *backends, *arms))


def _doors(settings: HaproxySettings, backend: str) -> str:
    """The runtime socket can change a server's address, but to no Unix socket: so the configuration names links, and these change."""
    return "\n".join(f"  server u{place} unix@{settings.doors}/{backend}u{place} disabled" for place in range(1, NUM_DOORS + 1))


def split_value(salt: str, arms: list[tuple[str, int]], *, may_repeat: bool) -> str:
    """A split as the map has it. `arms`: (backend, end), at most `MAX_ARMS`, the last one's end is `WHOLE`."""
    filled = [*arms, *[arms[-1]] * (MAX_ARMS - len(arms))]
    ends = "".join(f"{end}:{backend}:" for backend, end in filled[:-1])
    return f"{SPLIT if may_repeat else SPLIT_ONCE}{salt}:{ends}{filled[-1][0]}"


def _chosen_arm() -> Iterator[str]:
    """The rules that read `split_value`."""
    for at in range(3, 2 * MAX_ARMS, 2):
        yield f"  use_backend %[var(txn.to),word({at + 1},:)] if {{ var(txn.to),word({at},:),sub(txn.point) gt 0 }}"
    yield f"  use_backend %[var(txn.to),word({2 * MAX_ARMS + 1},:)]"
