"""The console's pages: who sees what, what is refused, what is handed on, and how the page's files are served."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.console.follower import Follower
from fabric.console.guard import CSP
from fabric.console.series import Series
from fabric.errors import UnavailableError
from fabric.job import Grant, JobId, Option
from fabric.job_events import JobDispatched, JobEnded, JobPreempted, JobStarted, JobSubmitted
from fabric.job_form import JOB_KEYS
from fabric.jobs import job
from fabric.plane.driver import STREAM
from fabric.types import Node, PoolSnapshot
from tests.console_world import HOST, INDEX, ConsoleWorld, a_console
from tests.jobs import spec

EVIL = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'; --", "a\u202eb", "\U0001f600" * 9, "{{7*7}}")
OPTION = Option(0, "big", 1, 1.0, 1.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ConsoleWorld]:
    with a_console(tmp_path, hosts=("console.example",)) as made:
        yield made


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleWorld]:
    """One for all the tests that change nothing."""
    with a_console(tmp_path_factory.mktemp("still"), hosts=("console.example",)) as made:
        yield made


def tell(world: ConsoleWorld, *facts: Any) -> None:
    world.journal.append_all(STREAM, facts)
    world.look()


def run(world: ConsoleWorld, name: str, *, user: str = "ann", queue: str = "default", node: str = "big-1") -> None:
    """A job that runs on a node."""
    one = spec(name, user=user, queue=queue, submitted_s=world.console.follower.now_s())
    grant = Grant(OPTION, (node,))
    tell(world, JobSubmitted(one, user), JobDispatched(one.job_id, 1, grant, "Fit"), JobStarted(one.job_id, 1, grant.nodes))


def three_jobs(world: ConsoleWorld) -> None:
    run(world, "of-ann")
    run(world, "of-bob", user="bob")
    run(world, "in-prod", user="cho", queue="prod", node="cpus-1")
    tell(world, JobPreempted(JobId("in-prod"), 1, "Preempted", JobId("of-bob")))


def seen_by(world: ConsoleWorld, token: str) -> list[set[str]]:
    """The jobs' names in the list, in the timeline's bars and its marks, on the nodes, and how many are counted."""
    listed = world.see(token, "/v1/console/jobs")
    timeline = world.see(token, "/v1/console/timeline")
    on_nodes = {name for node in world.see(token, "/v1/console/nodes")["nodes"] for name in node["jobs"]}
    found = [
        {one["name"] for one in listed["jobs"]},
        {bar[6] for bar in timeline["bars"]},
        {mark[5] for mark in timeline["marks"]},
        on_nodes,
    ]
    counts = world.see(token, "/v1/console/overview")["jobs"]
    assert sum(counts.values()) == sum(listed["states"].values()) == listed["total"] == len(found[0])
    return found


# -- what is shown ---------------------------------------------------------------------------------------------------------


def test_the_overview_shows_each_tier_with_what_is_used_leased_idle_and_broken(world: ConsoleWorld) -> None:
    run(world, "one")
    overview = world.see("root", "/v1/console/overview")
    assert (overview["name"], overview["version"], overview["api_problem"]) == ("lab", "1.2", None)
    assert overview["who"] == {"user": "root", "scopes": ["admin", "infer", "operate", "read", "submit"], "queues": []}
    assert [tier["tier"] for tier in overview["tiers"]] == ["hot", "warm", "cold"]
    hot = overview["tiers"][0]["flavors"][0]
    assert hot["peak_flops"] == {"fp16": 312e12} and hot["bandwidth_bytes_per_s"] is None
    assert (hot["flavor"], hot["units"], hot["leased"], hot["idle"], hot["used"], hot["broken"]) == ("big", 2.0, 1.0, 1.0, 0.0, 0.0)
    assert overview["usd_per_h"] == pytest.approx(2 * 3.6 + 8 * 0.036)
    assert hot["idle_usd_per_h"] == pytest.approx(3.6)
    assert overview["jobs"] == {"RUNNING": 1} and overview["seq"] == world.journal.last_seq(STREAM)


def test_a_pool_that_does_not_answer_is_a_problem_and_its_nodes_stay(world: ConsoleWorld) -> None:
    world.pools.answers["hot"] = UnavailableError("it is away")
    world.look()
    hot = world.see("root", "/v1/console/overview")["tiers"][0]
    assert hot["problem"] == "it is away" and hot["nodes"] == 1
    assert [node["node_id"] for node in world.see("root", "/v1/console/nodes?tier=hot")["nodes"]] == ["big-1"]


def test_what_is_asleep_is_listed_beside_what_is_there(world: ConsoleWorld) -> None:
    asleep = tuple(Node(f"asleep/more/{n}", "more", "warm", "big", {"GPU": 2.0}, health="asleep") for n in range(2))
    world.pools.answers["warm"] = PoolSnapshot("warm", 1, (), asleep=asleep)
    world.look()
    (row,) = world.see("root", "/v1/console/overview")["tiers"][1]["flavors"]
    assert (row["flavor"], row["nodes"], row["asleep"], row["units"], row["usd_per_h"], row["twin"]) == ("big", 0, 2, 0, None, False)
    assert world.see("root", "/v1/console/overview")["tiers"][0]["flavors"][0]["asleep"] == 0


def test_nodes_are_filtered_sorted_and_cut(world: ConsoleWorld) -> None:
    run(world, "one")
    ids = lambda query: [node["node_id"] for node in world.see("root", f"/v1/console/nodes{query}")["nodes"]]  # noqa: E731
    assert ids("") == ["big-1", "cpus-1"] and ids("?sort=units&descending=true") == ["cpus-1", "big-1"]
    assert ids("?text=HOST-CPU") == ids("?flavor=cpu") == ["cpus-1"] and ids("?health=draining") == []
    page = world.see("root", "/v1/console/nodes?offset=1&limit=1")
    assert [node["node_id"] for node in page["nodes"]] == ["cpus-1"] and page["total"] == 2
    (big,) = world.see("root", "/v1/console/nodes?tier=hot")["nodes"]
    assert (big["accelerator"], big["leased"], big["jobs"], big["slow_factor"], big["twin"]) == ("GPU", 1.0, ["one"], 1.5, False)
    assert world.see("root", "/v1/console/nodes?sort=nope", status=400)["code"] == "unknown_sort"
    assert world.see("root", "/v1/console/nodes?teir=hot", status=400)["hint"] == "did you mean tier?"


def test_the_series_has_a_point_for_each_look_of_a_step(still: ConsoleWorld) -> None:
    series = still.see("root", "/v1/console/series?minutes=60")
    assert series["step_s"] == 10.0 and len(series["times_s"]) >= 1
    assert series["tiers"]["hot"]["leased_frac"] == [0.0] * len(series["times_s"])
    assert series["flavors"]["big"]["usd_per_h"][0] == pytest.approx(7.2) and series["tiers"]["cold"]["gpu_frac"][0] is None


def test_the_series_outlives_the_console_and_a_broken_file_begins_anew(world: ConsoleWorld, tmp_path: Path) -> None:
    before, file = world.console.follower, tmp_path / "series.json"
    before._series_file = file
    before.save_series()
    parts: Any = (world.journal, world.pools, world.door, before.model.catalogue, ("hot",))
    assert Follower(*parts, series_file=file).series.as_json(60) == before.series.as_json(60) != Series().as_json(60)
    an_hour_later = Follower(*parts, series_file=file, now_s=lambda: before.now_s() + 3700.0)
    assert an_hour_later.series.as_json(60) == Series().as_json(60)
    for broken in (b"{", b"7", b'[["x", {}, {}]]', b"[1]"):
        file.write_bytes(broken)
        assert Follower(*parts, series_file=file).series.as_json(60) == Series().as_json(60)


def test_a_job_has_the_keys_of_the_api_and_what_only_the_scheduler_knows(world: ConsoleWorld) -> None:
    world.jobs("ann").submit(job("sleep 1"))
    world.look()
    (shown,) = world.see("ann", "/v1/console/jobs")["jobs"]
    assert sorted(shown) == sorted(JOB_KEYS)
    told = json.loads(world.ask("ann", "GET", f"/v1/jobs/{shown['id']}").body)
    assert {key: shown[key] for key in ("asks", "command", "why", "detail", "state", "priority")} == {
        key: told[key] for key in ("asks", "command", "why", "detail", "state", "priority")
    }


def test_the_timeline_has_rows_for_nodes_that_are_gone_and_finds_jobs_by_name(world: ConsoleWorld) -> None:
    run(world, "one")
    run(world, "two", node="long-gone")
    timeline = world.see("root", "/v1/console/timeline")
    assert [(row["node_id"], row["tier"], row["lanes"]) for row in timeline["rows"]] == [
        ("big-1", "hot", 1), ("cpus-1", "cold", 1), ("long-gone", "hot", 1),
    ]  # fmt: skip
    assert [(bar[0], bar[6], bar[8]) for bar in timeline["bars"]] == [(0, "one", "running"), (2, "two", "running")]
    assert [row["node_id"] for row in world.see("root", "/v1/console/timeline?text=TWO")["rows"]] == ["long-gone"]
    assert [row["node_id"] for row in world.see("root", "/v1/console/timeline?tier=cold")["rows"]] == ["cpus-1"]
    assert world.see("root", "/v1/console/timeline?from_s=5&to_s=5", status=400)["code"] == "bad_window"


@pytest.mark.parametrize("name", EVIL)
def test_names_come_out_as_they_are_in_json_that_no_browser_takes_for_a_page(world: ConsoleWorld, name: str) -> None:
    one = spec("evil", user=name, submitted_s=1.0)
    tell(world, JobSubmitted(one, name), JobEnded(one.job_id, 1, "error", name))
    reply = world.send("root", "GET", "/v1/console/jobs")
    assert json.loads(reply.body)["jobs"][0]["user"] == name
    assert reply.headers["content-type"] == "application/json" and reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"] == CSP


# -- who sees what ---------------------------------------------------------------------------------------------------------

PAGES = ("overview", "nodes", "series", "timeline", "jobs", "tasks", "events")


@pytest.mark.parametrize("page", PAGES)
def test_without_a_good_token_nothing_is_seen(still: ConsoleWorld, page: str) -> None:
    for token in (None, "nonsense", "tf_000000000000_" + "a" * 43):
        reply = still.send(token, "GET", f"/v1/console/{page}")
        assert reply.status == 401 and json.loads(reply.body)["code"] == "unauthorized"
    cookie = still.send(None, "GET", f"/v1/console/{page}", Cookie=f"token={still.secrets['root']}")
    assert cookie.status == 401


@pytest.mark.parametrize("page", PAGES)
def test_a_token_that_only_asks_models_is_refused(still: ConsoleWorld, page: str) -> None:
    token = still.token_of("ann", "infer")
    assert still.see(token, f"/v1/console/{page}", status=403)["code"] == "forbidden"


def test_without_read_one_sees_ones_own_and_no_other(world: ConsoleWorld) -> None:
    three_jobs(world)
    assert seen_by(world, "ann") == [{"of-ann"}, {"of-ann"}, set(), {"of-ann"}]


def test_a_token_for_a_queue_sees_that_queue_and_ones_own(world: ConsoleWorld) -> None:
    three_jobs(world)
    token = world.token_of("ann", "read", queues=("prod",))
    assert seen_by(world, token) == [{"of-ann", "in-prod"}, {"of-ann", "in-prod"}, {"in-prod"}, {"of-ann", "in-prod"}]
    assert seen_by(world, world.token_of("ann", "submit", queues=("prod",)))[0] == {"of-ann"}, "submit reads nobody else's"


def test_read_sees_all(world: ConsoleWorld) -> None:
    three_jobs(world)
    everybody = {"of-ann", "of-bob", "in-prod"}
    assert seen_by(world, "bob") == [everybody, everybody, {"in-prod"}, everybody]


def test_a_new_token_opens_at_once_and_a_revoked_one_no_longer(world: ConsoleWorld) -> None:
    token = world.token_of("ann", "read")
    assert world.see(token, "/v1/console/overview")["who"]["user"] == "ann"
    world.tokens.revoke(token.split("_")[1])
    world.console_tokens_are_old()
    assert world.see(token, "/v1/console/overview", status=401)["message"] == "this token was revoked"


# -- where from ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:4321", "CONSOLE.example:99"])
def test_the_console_answers_by_its_names(still: ConsoleWorld, host: str) -> None:
    assert still.send("root", "GET", "/v1/console/overview", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "console.example.evil", "192.168.0.9", "", "[", "localhost@evil.example:1"]
)
@pytest.mark.parametrize("path", ["/", "/v1/console/overview", "/v1/jobs"])
def test_a_name_that_somebody_let_point_here_is_refused(still: ConsoleWorld, host: str, path: str) -> None:
    reply = still.send("root", "GET", path, Host=host)
    assert reply.status == 403 and json.loads(reply.body)["code"] == "foreign_host"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:4321", "http://127.0.0.1:9", "https://127.0.0.1", "file://"]
)
def test_another_sites_page_changes_nothing(still: ConsoleWorld, origin: str) -> None:
    reply = still.send("root", "POST", "/v1/jobs/one/cancel", b"", Origin=origin)
    assert reply.status == 403 and json.loads(reply.body)["code"] == "foreign_origin"
    assert still.door.sent == []
    assert "access-control-allow-origin" not in reply.headers


def test_the_pages_own_requests_are_taken(still: ConsoleWorld) -> None:
    assert still.send("root", "GET", "/v1/console/overview", Origin=f"http://{HOST}").status == 200
    assert still.send("root", "GET", "/v1/console/overview", **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert still.send(None, "GET", "/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200, "a link elsewhere"


# -- what is handed on -----------------------------------------------------------------------------------------------------


def test_everything_else_is_the_apis_own_answer(world: ConsoleWorld) -> None:
    world.jobs("ann").submit(job("sleep 1", name="one"))
    direct = world.ask("ann", "GET", "/v1/jobs/one")
    through = world.send("ann", "GET", "/v1/jobs/one", Cookie="a=b", **{"X-Forwarded-For": "1.2.3.4"})
    assert json.loads(through.body)["id"] == json.loads(direct.body)["id"]
    method, target, headers = world.door.sent[-1]
    assert (method, target, sorted(headers)) == ("GET", "/v1/jobs/one", ["authorization"]), "nothing but the token travels on"
    logs = world.send("ann", "GET", "/v1/jobs/one/logs?offset=0&wait_s=0")
    assert logs.headers["x-fabric-final"] == "false" and world.door.sent[-1][1] == "/v1/jobs/one/logs?offset=0&wait_s=0"


def test_a_button_is_an_api_call_with_its_checks_and_twice_is_once(world: ConsoleWorld) -> None:
    world.jobs("ann").submit(job("sleep 1", name="first"))
    world.jobs("ann").submit(job("sleep 1", name="one", after="first"))
    assert world.send("bob", "POST", "/v1/jobs/one/cancel", b"").status == 403
    for _ in range(2):
        reply = world.send("ops", "POST", "/v1/jobs/one/cancel", b"")
        assert reply.status == 200 and json.loads(reply.body)["state"] == "CANCELLED"
    world.look()
    assert world.see("bob", "/v1/console/jobs?text=one")["jobs"][0]["state"] == "CANCELLED"


def test_an_api_that_is_away_is_told_and_the_console_goes_on(world: ConsoleWorld) -> None:
    run(world, "one")
    world.door.is_away = True
    world.look()
    reply = world.send("root", "GET", "/v1/usage")
    assert reply.status == 503 and json.loads(reply.body)["code"] == "unavailable"
    overview = world.see("root", "/v1/console/overview")
    assert overview["api_problem"] == "the fabric's API does not answer" and overview["jobs"] == {"RUNNING": 1}
    world.door.is_away = False
    world.look()
    assert world.see("root", "/v1/console/overview")["api_problem"] is None


def test_the_pages_describe_themselves(still: ConsoleWorld) -> None:
    document = json.loads(still.send(None, "GET", "/v1/console/openapi.json").body)
    assert sorted(document["paths"]) == sorted(f"/v1/console/{page}" for page in (*PAGES, "tasks/{task}"))
    assert {name["name"] for name in document["paths"]["/v1/console/jobs"]["get"]["parameters"]} >= {"state", "text", "offset", "limit"}
    written = (Path(__file__).parents[3] / "docs" / "console.md").read_text(encoding="utf-8")
    assert [path for path in document["paths"] if f"`GET {path}`" not in written] == []


# -- the page --------------------------------------------------------------------------------------------------------------


def test_the_page_needs_no_token_and_may_load_nothing_from_elsewhere(still: ConsoleWorld) -> None:
    reply = still.send(None, "GET", "/")
    assert reply.body.decode() == INDEX and reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"] == CSP and reply.headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in CSP and "http" not in CSP
    again = still.send(None, "GET", "/", **{"If-None-Match": reply.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_large_answers_are_packed_for_who_takes_that_and_kept_by_nobody(world: ConsoleWorld) -> None:
    for number in range(10):
        run(world, f"job-{number}")
    plain = world.send("root", "GET", "/v1/console/jobs")
    packed = world.send("root", "GET", "/v1/console/jobs", **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip" and json.loads(gzip.decompress(packed.body))["total"] == 10
    assert "content-encoding" not in plain.headers and len(packed.body) < len(plain.body) / 4
    assert packed.headers["cache-control"] == plain.headers["cache-control"] == "no-store"
    small = world.send("root", "GET", "/v1/console/series", **{"Accept-Encoding": "gzip"})
    assert len(small.body) > 0 and packed.headers["vary"] == "accept-encoding"


def test_files_are_packed_for_who_takes_that(still: ConsoleWorld) -> None:
    plain = still.send(None, "GET", "/vendor/big.js")
    packed = still.send(None, "GET", "/vendor/big.js", **{"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip" and gzip.decompress(packed.body) == plain.body
    assert "content-encoding" not in plain.headers and len(packed.body) < len(plain.body) / 10


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/../journal.db", "/%2e%2e/journal.db", "/vendor/../../journal.db", "/nothing.js", "/vendor"]
)
def test_nothing_but_the_page_is_served(still: ConsoleWorld, path: str) -> None:
    reply = still.send(None, "GET", path)
    assert reply.status == 404 and json.loads(reply.body)["code"] == "no_such_page"
