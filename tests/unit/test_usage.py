"""Usage as people see it and as files: every key is there, and no name is run by a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.api.app import create_app
from fabric.api.models_port import NoModels
from fabric.usage_file import file_bytes
from fabric.usage_form import MODEL_ROW_KEYS, ROW_KEYS, render_usage, safe_cell, with_shares
from tests.api_world import World
from tests.asgi_transport import AsgiTransport

EVIL = '=HYPERLINK("http://x","y")'
JOBS = dict(zip(ROW_KEYS, (EVIL, 1, 2, 3, 4.0, 5.5, 0.5, 6.25, 0.5, None, None, -3.5), strict=True))
MODEL = dict(
    zip(
        MODEL_ROW_KEYS,
        ("resnet", "ann", 2, 0.8, 12_000, 3, 10.0, {"a10": 7.5, "t4": 2.5}, 6.0, 0.5, 1.0, 1.8e9),
        strict=True,
    )
)


class Models(NoModels):
    """Ann's model has cost three times as much as Bob's."""

    def usage(self) -> list[dict[str, Any]]:
        rows = [
            {**MODEL, "name": name, "user": user, "cost_usd": cost} for name, user, cost in (("resnet", "ann", 6.0), ("bert", "bob", 2.0))
        ]
        return [{key: value for key, value in row.items() if key != "share_frac"} for row in rows]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("usage"), runs=False)
    made.transport.close()
    made.transport = AsgiTransport(create_app(made.plane, made.tokens, models=Models()))
    made.ask("ann", "POST", "/v1/jobs", b'{"command": "true"}')
    yield made
    made.close()


def got(world: World, path: str, user: str = "ann") -> Any:
    return json.loads(world.ask(user, "GET", path).body)


def read_csv(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode())))


# -- the form --------------------------------------------------------------------------------------------------------------


def test_models_are_a_table_with_what_a_thousand_requests_cost() -> None:
    lines = render_usage({"by": "model", "rows": [MODEL, {**MODEL, "name": "dear", "cost_usd": 60.0, "usd_per_1000": None}]}).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["dear", "resnet"]
    assert lines[-1].split() == ["resnet", "2", "10.0", "12,000", "3", "$6.00", "$0.50", "100", "%", "$0.80/h"]


def test_shares_are_of_what_all_cost_and_unknown_where_one_cost_is() -> None:
    assert [row["share_frac"] for row in with_shares([{"cost_usd": 3.0}, {"cost_usd": 1.0}])] == [0.75, 0.25]
    assert [row["share_frac"] for row in with_shares([{"cost_usd": 3.0}, {"cost_usd": None}])] == [None, None]
    assert with_shares([{"cost_usd": 0.0}]) == [{"cost_usd": 0.0, "share_frac": None}]


# -- files -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", "\nx", "＝1", "＠x"])
def test_what_a_spreadsheet_might_run_is_text_in_csv(name: str) -> None:
    (row,) = read_csv(file_bytes({"by": "user", "rows": [{**JOBS, "name": name}]}, "csv"))
    assert row["name"].replace("\r\n", "\n") == f"'{name}"


def test_numbers_and_plain_names_stay_as_they_are_in_csv() -> None:
    assert [safe_cell(value) for value in (-3.5, None, 0, "ann", "a=b", "")] == [-3.5, None, 0, "ann", "a=b", ""]
    (row,) = read_csv(file_bytes({"by": "queue", "rows": [JOBS]}, "csv"))
    assert tuple(row) == ROW_KEYS and row["name"] == f"'{EVIL}"
    assert (row["accelerator_hours"], row["vcpu_hours"], row["weight"], row["budget_left_usd"]) == ("5.5", "0.5", "", "-3.5")


def test_parquet_has_the_same_columns_with_types_and_names_as_they_are() -> None:
    table = pq.read_table(io.BytesIO(file_bytes({"by": "user", "rows": [JOBS]}, "parquet")))
    assert table.column_names == list(ROW_KEYS) and table.to_pylist() == [JOBS]
    assert table.schema.field("weight").type == pa.float64() and table.schema.field("pending").type == pa.int64()
    models = pq.read_table(io.BytesIO(file_bytes({"by": "model", "rows": [MODEL]}, "parquet")))
    assert models.to_pylist() == [{**MODEL, "flavor_hours": "a10: 7.5, t4: 2.5"}]


@pytest.mark.parametrize("by", ["user", "model"])
def test_a_file_of_nothing_has_its_columns(by: str) -> None:
    keys = list(MODEL_ROW_KEYS if by == "model" else ROW_KEYS)
    assert file_bytes({"by": by, "rows": []}, "csv").decode() == ",".join(keys) + "\r\n"
    assert pq.read_table(io.BytesIO(file_bytes({"by": by, "rows": []}, "parquet"))).column_names == keys


# -- over the API ----------------------------------------------------------------------------------------------------------


def test_who_may_read_sees_all_models_and_others_their_own(world: World) -> None:
    seen = {
        user: {row["name"]: row["share_frac"] for row in got(world, "/v1/usage?by=model", user)["rows"]} for user in ("ann", "bob", "root")
    }
    assert seen == {"ann": {"resnet": 0.75}, "bob": {"resnet": 0.75, "bert": 0.25}, "root": {"resnet": 0.75, "bert": 0.25}}
    assert all(set(row) == set(MODEL_ROW_KEYS) for row in got(world, "/v1/usage?by=model", "root")["rows"])
    world.secrets["bound"], _ = world.tokens.mint("cleo", ["read"], queues=["default"])
    assert got(world, "/v1/usage?by=model", "bound")["rows"] == []


def test_an_export_is_a_file_with_the_rows_of_the_page(world: World) -> None:
    reply = world.ask("ann", "GET", "/v1/usage/export?by=user&format=csv")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["content-disposition"] == 'attachment; filename="usage-by-user.csv"'
    assert (reply.headers["x-content-type-options"], reply.headers["cache-control"]) == ("nosniff", "no-store")
    assert [row["name"] for row in read_csv(reply.body)] == ["ann"]
    reply = world.ask("bob", "GET", "/v1/usage/export?by=model&format=parquet")
    assert reply.headers["content-disposition"] == 'attachment; filename="usage-by-model.parquet"'
    assert [row["name"] for row in pq.read_table(io.BytesIO(reply.body)).to_pylist()] == ["resnet", "bert"]


@pytest.mark.parametrize(
    ("user", "path", "status", "code"),
    [
        ("ann", "/v1/usage/export?by=queue", 403, "forbidden"),
        ("ann", "/v1/usage/export?format=xlsx", 400, "bad_format"),
        ("ann", "/v1/usage?by=flavor", 400, "bad_by"),
        ("ann", "/v1/usage?by=user&format=csv", 400, "unknown_key"),
        (None, "/v1/usage/export", 401, "unauthorized"),
    ],
)
def test_an_export_is_refused_as_the_page_is(world: World, user: str | None, path: str, status: int, code: str) -> None:
    reply = world.ask(user, "GET", path)
    assert (reply.status, json.loads(reply.body)["code"]) == (status, code)


def test_the_client_shows_usage_and_writes_it_to_a_file(world: World, tmp_path: Path) -> None:
    jobs = world.jobs("bob")
    assert "resnet" in str(jobs.usage("model")) and jobs.usage("model").as_json()["by"] == "model"
    assert jobs.export_usage(tmp_path / "u.CSV", "model") == (tmp_path / "u.CSV").stat().st_size
    assert [row["name"] for row in read_csv((tmp_path / "u.CSV").read_bytes())] == ["resnet", "bert"]
