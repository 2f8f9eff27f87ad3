"""What `fabric status` prints of the copy."""

from __future__ import annotations

from typing import Any

from fabric.status_form import fabric_json, format_status


def printed(shipping: dict[str, Any] | None) -> list[str]:
    text = format_status(fabric_json("lab", "here", [], [], (), shipping))
    return [line for line in text.splitlines() if "journal" in line or "profiles" in line]


def database(**more: object) -> dict[str, object]:
    return {"state": "shipping", "lag_s": 0.4, "changes": 3, "bytes": 99, "error": None, **more}


def status(silent_s: float | None = 0.5, **databases: object) -> dict[str, Any]:
    return {"storage_url": "s3://lab/fabric", "silent_s": silent_s, "databases": databases}


def test_where_nothing_is_shipped_nothing_is_said() -> None:
    assert printed(None) == []


def test_one_line_says_how_far_behind_the_copy_is() -> None:
    assert printed(status(journal=database(), profiles=database())) == ["journal: its copy in s3://lab/fabric is 0.9 s behind"]
    assert printed(status(journal=database(lag_s=None, state="copying"))) == ["journal: no whole copy yet in s3://lab/fabric"]


def test_what_fails_is_said_of_each() -> None:
    lines = printed(status(journal=database(), profiles=database(state="failing", lag_s=70.0, error="no route")))
    assert lines[1] == "profiles: its copy in s3://lab/fabric is 70.5 s behind, failing: no route"


def test_silence_is_said() -> None:
    assert printed(status(61.0, journal=database())) == ["journal: nothing is heard of its copy in s3://lab/fabric for 61 s"]
    assert printed(status(None)) == ["journal: nothing is heard of its copy in s3://lab/fabric"]
