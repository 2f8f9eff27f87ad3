"""Where a request goes when replicas refuse, or none lives."""

from __future__ import annotations

import asyncio

import pytest

from fabric.errors import FabricError, RejectedError, UnavailableError
from serve_apps.gateway.forwarder import Forwarder
from serve_apps.gateway.gateway import Gateway
from serve_apps.gateway.heads import http_head
from tests.unit.gateway.in_memory import WOKEN, Pool, Waker, gateway
from tests.unit.oip.models import add

HEAD = http_head("GET", "/v2/models/add", b"", (), 0)


def forwarder(made: Gateway) -> Forwarder:
    return made.fleet.forwarder


def asked(made: Gateway) -> int:
    return asyncio.run(forwarder(made).ask(made.routes.find("add"), [HEAD])).status


def num_seen(pool: Pool) -> int:
    return sum(map(len, pool.seen.values()))


def test_a_request_goes_elsewhere_when_a_replica_takes_no_connection() -> None:
    made, pool = gateway(add(), num_replicas=2)
    pool.dead = {made.routes.find("add").replicas[0]}
    assert [asked(made) for _ in range(4)] == [200] * 4
    assert num_seen(pool) == 4


def test_it_goes_elsewhere_once() -> None:
    made, pool = gateway(add(), num_replicas=3)
    pool.dead = set(made.routes.find("add").replicas)
    with pytest.raises(UnavailableError) as caught:
        asked(made)
    assert caught.value.code == "replica_refused"


def test_where_the_only_replica_refuses_another_is_woken() -> None:
    waker = Waker(WOKEN)
    made, pool = gateway(add(), waker=waker)
    pool.dead = set(made.routes.find("add").replicas)
    assert asked(made) == 200
    assert waker.woken == [("add", "1")]
    assert len(pool.seen[WOKEN]) == 1


def test_without_a_replica_and_a_waker_the_caller_is_told_to_come_back() -> None:
    made, _ = gateway(sleeping=[add()])
    with pytest.raises(RejectedError) as caught:
        asked(made)
    assert (caught.value.code, caught.value.retry_after_s) == ("no_replica", 1.0)


def test_nothing_is_woken_for_somebody_who_may_not_ask() -> None:
    waker = Waker(WOKEN)
    made, _ = gateway(sleeping=[add()], waker=waker)

    def refuse() -> None:
        raise RejectedError("no", code="forbidden")

    with pytest.raises(FabricError):
        asyncio.run(forwarder(made).ask(made.routes.find("add"), [HEAD], refuse))
    assert waker.woken == []


def test_what_is_outstanding_is_counted_while_it_is() -> None:
    made, _ = gateway(add())
    target = made.routes.find("add")

    async def scenario() -> None:
        with await forwarder(made).lease(target):
            assert made.routes.outstanding(target.replicas[0]) == 1
        assert made.routes.outstanding(target.replicas[0]) == 0

    asyncio.run(scenario())
