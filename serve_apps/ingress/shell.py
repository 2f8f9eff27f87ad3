"""The ingress of one machine as an actor: follows the directory's table, and keeps HAProxy and the gateway by it. Undecorated."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from fabric.errors import FabricError
from serve_apps.directory.requests import BeatAnswer
from serve_apps.directory.table import ServingTable
from serve_apps.gateway.feedback import FeedbackRow
from serve_apps.gateway.server import GatewayServer
from serve_apps.ingress.access import Access
from serve_apps.ingress.haproxy import Haproxy, haproxy_binary
from serve_apps.ingress.haproxy_config import HaproxySettings
from serve_apps.ingress.settings import IngressSettings
from serve_apps.ingress.waker import IngressWaker

ACTOR = "ingress"
WAIT_S = 2.0
"""How long one question for news is held; tokens are asked for as often."""
AGAIN_S = 0.5
FEEDBACK_S = 1.0
_log = logging.getLogger(__name__)


class TablePort(Protocol):
    """The directory, from an ingress. Raises: UnavailableError while it is away."""

    def table_after(self, seq: int, timeout_s: float) -> ServingTable: ...

    def tokens_after(self, mark: str) -> BeatAnswer: ...

    def feedback(self, rows: Sequence[FeedbackRow]) -> None: ...


class IngressShell:
    """Serves from the moment that it is made. Raises: RuntimeFault (`port_taken`, `haproxy_failed`)."""

    def __init__(
        self, settings: IngressSettings, directory: TablePort, make_waker: Callable[[IngressSettings, Access], IngressWaker]
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._access = Access(is_open=settings.is_open, user=settings.user)
        self._table = ServingTable()
        self._is_new = threading.Condition()
        self._waker = make_waker(settings, self._access)
        binary = haproxy_binary()
        # Without HAProxy the gateway stands at the public ports itself: every request goes through Python then.
        behind = None if binary is None else ("127.0.0.1", 0)
        self._gateway = GatewayServer(
            rest=behind or (settings.host, settings.port),
            grpc=behind or (settings.host, settings.grpc_port),
            authorize=self._access.authorize,
            waker=self._waker,
        )
        self._gateway.start()
        self._gateway.run(self._waker.start()).result()
        self._haproxy: Haproxy | None = None
        if binary is not None:
            rest, grpc = (f"127.0.0.1:{port}" for port in (self._gateway.rest_port, self._gateway.grpc_port))
            front = HaproxySettings(settings.folder, settings.host, settings.port, rest, settings.grpc_port, grpc)
            self._haproxy = Haproxy(binary, front)
            self._haproxy.start()
        for work in (self._follow, self._wake_along, self._feed_back):
            threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True).start()

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return ACTOR

    def settings(self) -> IngressSettings:
        return self._settings

    def applied(self, seq: int, timeout_s: float) -> bool:
        """Whether requests are routed by table `seq` or a later one, waited for."""
        with self._is_new:
            return self._is_new.wait_for(lambda: self._table.seq >= seq, timeout_s)

    def _follow(self) -> None:
        tick = threading.Event()
        while True:
            try:
                answer = self._directory.tokens_after(self._access.mark)
                if answer.tokens is not None:
                    self._access.replace(answer.tokens_mark, answer.tokens)
                    self._waker.replace_tokens()
                self._apply(self._directory.table_after(self._table.seq, WAIT_S))
            except FabricError as error:
                # Requests go on by the last table.
                _log.warning("the table cannot be followed: %s", error)
                tick.wait(AGAIN_S)

    def _apply(self, table: ServingTable) -> None:
        """Also where nothing is new: a HAProxy that has died is noticed here. A directory that was restarted counts anew."""
        if self._haproxy is not None:
            self._haproxy.apply(table)
        if table.seq == self._table.seq:
            return
        self._gateway.replace(table)
        with self._is_new:
            self._table = table
            self._is_new.notify_all()

    def _wake_along(self) -> None:
        """What may be woken follows on a thread of its own: it may have a model to fetch, and no change of traffic waits for that."""
        followed = self._table
        while True:
            with self._is_new:
                while self._table is followed:
                    self._is_new.wait()
                followed = self._table
            self._waker.follow(followed)

    def _feed_back(self) -> None:
        """What users posted, once a second. What cannot be delivered waits."""
        tick = threading.Event()
        feedback = self._gateway.feedback
        while not tick.wait(FEEDBACK_S):
            rows = feedback.take()
            try:
                if rows:
                    self._directory.feedback(rows)
            except FabricError as error:
                feedback.put_back(rows)
                _log.warning("feedback waits rows=%d: %s", len(rows), error)
