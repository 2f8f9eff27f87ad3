"""The commands of jobs: what they print, in both forms, and the codes that they end with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fabric.cli.main import Root
from fabric.errors import UnavailableError
from fabric.job_ids import short_id
from tests.api_world import UNTIL_S, World, a_world

TABLE = {
    name: (f"fabric.cli.{name}:{name}", "")
    for name in ("submit", "queue", "logs", "cancel", "plan", "usage", "efficiency", "policy", "token", "explain")
} | {"raise": ("fabric.cli.raise_jobs:raise_jobs", "")}  # fmt: skip
HEAVY = ("ray", "pydantic", "rich", "sqlalchemy", "yaml", "fastapi", "uvicorn", "fsspec", "cloudpickle")


@click.group(cls=Root, name="fabric", table=TABLE)
def cli() -> None:
    """All that is tested here."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("cli")) as made:
        yield made


@pytest.fixture(autouse=True)
def ann(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FABRIC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["ann"])
    monkeypatch.setattr("fabric.api_client.transport_to", lambda *_: world.transport)
    monkeypatch.setenv("COLUMNS", "100")


def run(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(cli, list(args), **options)


def submitted(*args: str) -> str:
    result = run("submit", "-o", "json", *args)
    assert result.exit_code == 0, result.output
    (job_id,) = json.loads(result.stdout)["ids"]
    return str(job_id)


def told(result: Result) -> str:
    """The first line of an error."""
    return str(result.stderr.splitlines()[0])


def fits(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 100


# -- submit, logs, cancel --------------------------------------------------------------------------------------------------


def test_submit_tells_the_id_and_what_to_do_with_it() -> None:
    result = run("submit", "--name", "hello", "--", "echo", "hello")
    job_id = result.stdout.splitlines()[0].removeprefix("submitted ")
    assert result.exit_code == 0 and len(job_id) == 36 and f"`fabric logs -f {short_id(job_id)}`" in result.stdout
    followed = run("logs", "-f", short_id(job_id))
    assert (followed.exit_code, followed.stdout) == (0, "hello\n")
    assert run("logs", "hello").stdout == "hello\n"


def test_follow_shows_the_output_and_ends_with_the_job(world: World) -> None:
    good = run("submit", "--follow", "--", "echo", "a b")
    assert (good.exit_code, good.stdout.splitlines()[-1], good.stderr) == (0, "a b", "")
    bad = run("submit", "-f", "echo before; exit 4")
    assert bad.exit_code == 1 and "before" in bad.stdout
    assert told(bad).startswith("error[job_failed]: echo failed (Error") and "hint: `fabric logs " in bad.stderr


def test_the_words_of_a_command_stay_as_they_are(world: World) -> None:
    for args, output in ((["--", "printf", "%s|", "a b", "$HOME", "--flag"], "a b|$HOME|--flag|"), (["echo $((1+2)) && echo x"], "3\nx\n")):
        assert run("submit", "-f", *args).stdout.endswith(output)


def test_every_option_reaches_the_job(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "hidden")
    (tmp_path / "t.py").write_text("1")
    job_id = submitted(
        "-q", "default", "--gpus", "big:1", "--any-of", "small:1", "--cpus", "2", "--memory", "1GB", "--deadline", "6h", "--budget", "40",
        "--timeout", "2h", "--retries", "3", "--name", "full", "--family", "fam", "--tag", "a=b", "--env", "X=1=2", "--secret", "KEY",
        "--checkpoint-dir", "ck", "--grace", "5s", "--no-preempt", "--key", "once", "--", "python", "t.py", "--name", "other",
    )  # fmt: skip
    from fabric.job import JobId

    spec, how = world.plane.core.jobs[JobId(job_id)].spec, world.how(job_id)
    assert [(shape.selector, shape.accelerators, shape.cpus, shape.memory_bytes) for shape in spec.shapes] == [
        ("big", 1, 2.0, 10**9),
        ("small", 1, 2.0, 10**9),
    ]
    assert (spec.name, spec.family, spec.tags, spec.max_retries, spec.timeout_s, spec.budget_usd) == (
        "full",
        "fam",
        {"a": "b"},
        3,
        7200.0,
        40.0,
    )
    assert (spec.can_resume, spec.is_preemptible) == (True, False)
    assert (how.command, how.env, how.secrets, how.grace_s) == ("python t.py --name other", {"X": "1=2"}, {"KEY": "hidden"}, 5.0)
    assert world.plane.has(how.working_dir)
    assert submitted("--key", "once", "--", "true") == job_id
    assert world.how(submitted("--no-working-dir", "--", "python", "t.py")).working_dir == ""


def test_an_array_is_submitted_and_shown(world: World) -> None:
    result = run("submit", "--array", "3", "--name", "sweep", "-o", "json", "--", "true")
    document = json.loads(result.stdout)
    assert len(document["ids"]) == 3
    for job_id in document["ids"]:
        world.plane.wait(job_id, UNTIL_S)
    shown = json.loads(run("queue", "--array", document["array_id"], "-o", "json").stdout)
    assert {job["name"] for job in shown["jobs"]} == {"sweep[0]", "sweep[1]", "sweep[2]"}
    assert run("submit", "--array", "2", "--follow", "--", "true").exit_code == 2
    blocker = submitted("--name", "blocker", "--", "sleep", "60")
    waiting = json.loads(run("submit", "--array", "2", "--after", "blocker", "-o", "json", "--", "true").stdout)["array_id"]
    cancelled = json.loads(run("cancel", waiting, blocker, "-o", "json").stdout)["jobs"]
    assert [job["state"] for job in cancelled][:2] == ["CANCELLED", "CANCELLED"] and len(cancelled) == 3


def test_cancel_takes_many_and_tells_of_each(world: World) -> None:
    first, second = submitted("--name", "c-one", "--", "sleep", "60"), submitted("--name", "c-two", "--", "sleep", "60")
    ended = submitted("--name", "c-done", "--", "true")
    world.plane.wait(ended, UNTIL_S)
    result = run("cancel", "c-one", short_id(second), "c-done", "nobody")
    assert result.exit_code == 2 and told(result).startswith("error[unknown_job]: ")
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and lines[2] == f"c-done ({short_id(ended)}) had ended: SUCCEEDED"
    assert world.plane.wait(first, UNTIL_S).state.value == world.plane.wait(second, UNTIL_S).state.value == "CANCELLED"


def test_raise_takes_many_and_tells_the_place_of_each(world: World) -> None:
    classes = {"priorityClasses": [{"name": "high", "value": 5}, {"name": "low"}]}
    world.plane.policy_apply({**world.plane.policy_show()["document"], "spec": classes}, "root")
    blocker, ended = submitted("--name", "r-blocker", "--cpus", "8", "--gpus", "big:2", "--", "sleep", "60"), submitted("--", "true")
    first = submitted("--name", "r-one", "--priority", "low", "--gpus", "big:2", "--", "true")
    array = json.loads(run("submit", "--array", "2", "--priority", "low", "--gpus", "big:2", "-o", "json", "--", "true").stdout)["array_id"]
    world.plane.wait(ended, UNTIL_S)
    result = run("raise", array, "--priority", "high")
    assert result.exit_code == 0 and result.stdout.splitlines()[0].endswith("is of class high, #1 of those that wait")
    rest = run("raise", "r-one", short_id(ended), "--priority", "high", "-o", "json")
    assert (rest.exit_code, told(rest)) == (3, "error[job_ended]: true has ended: SUCCEEDED")
    assert [(job["id"], job["priority"], job["position"]) for job in json.loads(rest.stdout)["jobs"]] == [(first, "high", 1)]
    assert "class set to high by ann" in run("explain", "r-one").stdout
    assert run("raise", "r-one", "--priority", "hihg").exit_code == 2
    run("cancel", blocker, first, array)


@pytest.mark.parametrize(
    ("args", "status", "code", "hint"),
    [
        (["submit", "-q", "nope", "--", "true"], 2, "unknown_queue", "known: default"),
        (["submit", "--gpus", "bigg", "--", "true"], 2, "unknown_flavor", "did you mean big?"),
        (["submit", "--gpus", "big:64", "--", "true"], 3, "no_fit", "ask for less"),
        (["submit", "--budget", "-1", "--", "true"], 2, "bad_budget_usd", "dollars, 0 or more"),
        (["submit", "--env", "X", "--", "true"], 2, "bad_env", "--env NAME=value"),
        (["submit", "--secret", "NOT_SET_ANYWHERE", "--", "true"], 2, "bad_secrets", ""),
        (["submit", "--after", "nobody", "--", "true"], 2, "unknown_job", "`fabric queue` lists jobs"),
        (["submit"], 2, "usage", "`fabric submit --help`"),
        (["submit", "--gpu", "1", "--", "true"], 2, "usage", "`fabric submit --help`"),
        (["logs", "nobody"], 2, "unknown_job", "`fabric queue` lists jobs"),
        (["policy", "show"], 0, "", ""),
        (["policy", "rollback"], 3, "forbidden", "admin"),
        (["policy", "apply", "missing.yaml"], 2, "policy_not_found", ""),
        (["token", "list"], 3, "forbidden", "admin"),
        (["usage", "--by", "queue"], 3, "forbidden", "read"),
    ],
)
def test_what_goes_wrong_ends_with_its_code_and_a_hint(args: list[str], status: int, code: str, hint: str) -> None:
    result = run(*args)
    assert result.exit_code == status, result.output
    if code:
        assert told(result).startswith(f"error[{code}]: ") and hint in result.stderr and "Traceback" not in result.stderr


def test_a_fabric_that_is_not_there_ends_with_4(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise UnavailableError("no fabric", hint="`fabric up` starts one")

    monkeypatch.setattr(world.transport, "send", away)
    for args in (
        ["submit", "--", "true"],
        ["queue"],
        ["logs", "x"],
        ["cancel", "x", "y"],
        ["plan", "--", "true"],
        ["usage"],
        ["efficiency"],
        ["policy", "show"],
    ):
        result = run(*args)
        assert (result.exit_code, result.stderr.splitlines()) == (4, ["error[unavailable]: no fabric", "hint: `fabric up` starts one"]), (
            args
        )


def test_without_a_token_the_hint_says_where_one_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FABRIC_TOKEN")
    result = run("queue")
    assert result.exit_code == 2 and told(result).startswith("error[token_not_found]") and "FABRIC_TOKEN" in result.stderr
    monkeypatch.setenv("FABRIC_TOKEN", "wrong")
    assert told(run("queue")).startswith("error[unauthorized]")


# -- queue, plan, usage ----------------------------------------------------------------------------------------------------


def test_the_queue_fits_100_columns_and_says_why_jobs_wait(world: World) -> None:
    base = submitted("--name", "a-very-long-name-of-a-job-that-nobody-can-read", "--", "sleep", "60")
    waiting = submitted("--name", "behind", "--after", base, "--", "true")
    world.until_running(base)
    table = run("queue").stdout
    assert fits(table) and "Dependency" in table and "RUNNING" in table and short_id(waiting) in table and "…" in table
    assert "user" not in run("queue", "--me").stdout.splitlines()[0]
    document = json.loads(run("queue", "--me", "--state", "pending", "-o", "json").stdout)
    assert waiting in [job["id"] for job in document["jobs"]] and base not in [job["id"] for job in document["jobs"]]
    assert document["states"] == {"PENDING": len(document["jobs"])}
    run("cancel", base)
    world.plane.wait(waiting, UNTIL_S)
    assert waiting not in run("queue", "-o", "json").stdout and waiting in run("queue", "--all", "-o", "json").stdout
    assert run("queue", "-q", "nothing-there").stdout == "no jobs\n"


def test_watching_shows_the_queue_anew_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("fabric.cli.queue.time.sleep", pause)
    result = run("queue", "--watch", "--every", "5", "-q", "nothing-there")
    assert (result.exit_code, result.stdout, pauses) == (130, "no jobs\n" * 3, [5.0] * 3)


def test_a_plan_is_a_table_of_flavors_with_the_chosen_one() -> None:
    result = run("plan", "--gpus", "any", "--", "python", "train.py")
    assert result.exit_code == 0 and fits(result.stdout) and "chosen: big:1, starts now" in result.stdout
    document = json.loads(run("plan", "--gpus", "any", "-o", "json", "--", "python", "train.py").stdout)
    assert document["ways"][document["chosen"]]["flavor"] == "big"


def test_usage_has_a_row_for_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted("--", "true")
    assert run("usage").stdout.splitlines()[2].startswith("ann ")
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["bob"])
    result = run("usage", "--by", "queue")
    assert fits(result.stdout) and result.stdout.splitlines()[2].startswith("default ")
    assert json.loads(run("usage", "-o", "json").stdout)["by"] == "user"


def test_usage_is_written_to_a_file_that_a_spreadsheet_reads(world: World, tmp_path: Path) -> None:
    submitted("--", "true")
    result = run("usage", "--export", "u.csv", "-o", "json")
    assert json.loads(result.stdout) == {"file": "u.csv", "by": "user", "bytes": (tmp_path / "u.csv").stat().st_size}
    assert (tmp_path / "u.csv").read_text().splitlines()[1].startswith("ann,")
    assert run("usage", "--by", "model", "--export", "m.parquet").stdout.startswith("usage by model written to m.parquet: ")
    assert run("usage", "--by", "model").stdout == "nothing was used yet\n"
    for file, said in (("u.xlsx", "an export is .csv or .parquet"), ("no/such/u.csv", "cannot write no/such/u.csv")):
        bad = run("usage", "--export", file)
        assert bad.exit_code == 2 and told(bad).startswith("error[bad_export]: ") and said in bad.stderr


# -- policy, token ---------------------------------------------------------------------------------------------------------


def test_a_policy_is_applied_shown_and_rolled_back(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["root"])
    before = len(world.plane.policy_history())
    text = "apiVersion: scheduling.example.com/v1\nkind: HybridPolicy\nmetadata: {name: from-cli}\nspec: {objective: jct}\n"
    (tmp_path / "policy.yaml").write_text(text)
    assert run("policy", "apply", "policy.yaml").stdout == f"version {before + 1} is in force\n"
    shown = run("policy", "show").stdout
    assert shown.startswith(f"# version {before + 1}, applied by root ") and "objective: jct" in shown
    assert run("policy", "apply", "-", input=text.replace("from-cli", "piped")).exit_code == 0
    assert world.plane.core.book.policy.name == "piped"
    assert run("policy", "rollback").exit_code == 0 and world.plane.core.book.policy.name == "from-cli"
    assert run("policy", "rollback", "1").exit_code == 0 and world.plane.core.book.policy.name == "default"
    history = run("policy", "history").stdout
    assert "from-cli" in history and fits(history)
    bad = run("policy", "apply", "-", input=text.replace("objective", "objektive"))
    assert bad.exit_code == 2 and told(bad).startswith("error[unknown_policy_key]") and world.plane.core.book.policy.name == "default"
    assert run("policy", "rollback", "99").exit_code == 2


def test_a_what_if_shows_both_policies_and_its_progress_aside(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text(json.dumps(world.plane.policy_show()["document"]))
    assert run("policy", "what-if", "p.yaml").exit_code == 3, "ann may not read"
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["bob"])
    monkeypatch.setattr("fabric.cli.policy_what_if._Progress.EVERY_S", 0.0)
    monkeypatch.setattr("fabric.jobs.LOOK_S", 0.05)
    world.plane.wait(submitted("--", "true"), UNTIL_S)
    table = run("policy", "what-if", "p.yaml", "--since", "1h")
    assert table.exit_code == 0, table.stderr
    assert "in force" in table.stdout and fits(table.stdout) and table.stderr.startswith("replayed 0 %")
    document = json.loads(run("policy", "what-if", "-", "-o", "json", input=(tmp_path / "p.yaml").read_text()).stdout)
    assert document["state"] == "done" and document["current"]["jobs"] == document["jobs"] >= 1
    (tmp_path / "bad.yaml").write_text("kind: [")
    for args, status, code in (
        (["bad.yaml"], 2, "policy_not_yaml"),
        (["p.yaml", "--since", "soon"], 2, "bad_duration"),
        (["no.yaml"], 2, "policy_not_found"),
    ):
        bad = run("policy", "what-if", *args)
        assert bad.exit_code == status and told(bad).startswith(f"error[{code}]: ")


def test_ctrl_c_ends_a_what_if_in_the_fabric_too(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "p.yaml").write_text(json.dumps(world.plane.policy_show()["document"]))
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["bob"])
    monkeypatch.setattr("fabric.plane.what_if.COMMAND", (sys.executable, "-c", "import time; time.sleep(1000)"))
    monkeypatch.setattr("fabric.cli.policy_what_if._Progress.__call__", interrupted)
    assert run("policy", "what-if", "p.yaml").exit_code not in (0, 1)
    monkeypatch.setattr("fabric.plane.what_if.COMMAND", (sys.executable, "-c", "print('{\"answer\": {}}')"))
    monkeypatch.setattr("fabric.cli.policy_what_if._Progress.__call__", lambda *_: None)
    again = run("policy", "what-if", "p.yaml", "-o", "json")
    assert "busy" not in again.stderr


def test_tokens_are_made_listed_and_revoked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["root"])
    made = run(
        "token", "create", "--user", "zoe", "--scope", "submit", "--scope", "read", "-q", "default", "--expires", "30d", "--note", "ci"
    )
    token = made.stdout.strip()
    assert made.exit_code == 0 and token.startswith("tf_") and "not shown again" in made.stderr
    listed = run("token", "list").stdout
    assert fits(listed) and "submit,read" in listed and "good for 29d23h" in listed and token not in listed
    monkeypatch.setenv("FABRIC_TOKEN", token)
    assert run("queue").exit_code == 0
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["root"])
    token_id = token.split("_")[1]
    assert run("token", "revoke", token_id).stdout == f"token {token_id} of zoe is revoked\n"
    assert "revoked" in run("token", "list").stdout
    monkeypatch.setenv("FABRIC_TOKEN", token)
    assert run("queue").exit_code == 2


# -- all of them -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TABLE, "policy apply", "token create"])
def test_help_imports_nothing_heavy_and_names_every_option(name: str) -> None:
    module = TABLE[name.split()[0]][0].partition(":")[0]
    code = (
        f"import sys, importlib\nfrom fabric.cli.main import Root\ncli = Root(name='fabric', table={TABLE!r})\n"
        f"try:\n    cli.main({[*name.split(), '--help']!r}, prog_name='fabric')\nfinally:\n"
        f"    print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules], {module!r} in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "HEAVY [] True")
    assert "--debug" in done.stdout and "--config" in done.stdout


def test_explain_tells_of_a_job_by_name_and_by_id_in_both_forms() -> None:
    job_id = submitted("--name", "told-of", "--", "true")
    for name in (job_id, short_id(job_id), "told-of"):
        result = run("explain", "-o", "json", name)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["job"]["id"] == job_id
    assert "told-of" in run("explain", "told-of").stdout
