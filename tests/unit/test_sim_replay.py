"""What the journal recorded runs again: durations as measured, other flavors by the family's ratio, nothing guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.errors import UserError
from fabric.job import Grant, JobId, JobSpec, Option, Outcome, Shape
from fabric.job_events import JobDispatched, JobEnded, JobFact, JobPreempted, JobReprioritised, JobStarted, JobSubmitted, JobVacated
from fabric.journal import Journal
from fabric.sim.replay import Recorded, recorded

NOW_S = 1_700_000_000.0
POLICY = """
apiVersion: scheduling.example.com/v1
kind: HybridPolicy
metadata: {name: other}
spec: {objective: jct, restartSeconds: 0}
"""


class History:
    """Writes a fabric's journal as the job plane does."""

    def __init__(self, url: str) -> None:
        self.journal = Journal(url)

    def at(self, wall_s: float, *facts: JobFact) -> None:
        self.journal.append_all("jobs", facts, wall_s=NOW_S + wall_s)

    def submit(self, name: str, at_s: float, family: str = "f", gpus: int = 1, after: tuple[str, ...] = ()) -> None:
        shape = Shape("gpu", gpus, cpus=4.0)
        deps = tuple(JobId(other) for other in after)
        spec = JobSpec(JobId(name), name, "ann", "default", "", "program", (shape,), family, NOW_S + at_s, after=deps)
        self.at(at_s, JobSubmitted(spec, "ann"))

    def start(self, name: str, at_s: float, flavor: str, attempt: int = 1, gpus: int = 1) -> None:
        grant = Grant(Option(0, flavor, 1, float(gpus), 1.0), ("n",))
        self.at(at_s, JobDispatched(JobId(name), attempt, grant, "Fit"))
        self.at(at_s, JobStarted(JobId(name), attempt))

    def end(self, name: str, at_s: float, outcome: Outcome = "ok", attempt: int = 1) -> None:
        self.at(at_s, JobEnded(JobId(name), attempt, outcome))

    def run(self, name: str, at_s: float, seconds: float, flavor: str, family: str = "f") -> None:
        self.submit(name, at_s, family)
        self.start(name, at_s, flavor)
        self.end(name, at_s + seconds)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'journal.db'}"


def read(url: str, within_s: float = 1e9) -> Recorded:
    return recorded(url, within_s)


def test_a_job_takes_on_another_flavor_what_its_family_took_there_on_average(url: str) -> None:
    history = History(url)
    history.run("a", 0.0, 100.0, "v100")
    history.run("b", 10.0, 400.0, "k80")
    history.run("c", 20.0, 50.0, "v100", family="g")
    a, b, c = read(url).jobs
    assert 1 / a.rates["v100"] == pytest.approx(100)
    assert 1 / a.rates["k80"] == pytest.approx(400)
    assert 1 / b.rates["v100"] == pytest.approx(100)
    assert set(c.rates) == {"v100"}, "its family never ran on a K80"
    assert [job.arrival_s for job in (a, b, c)] == [0.0, 10.0, 20.0]


def test_attempts_that_were_preempted_count_and_those_that_were_lost_do_not(url: str) -> None:
    history = History(url)
    history.run("a", 0.0, 100.0, "v100")
    history.run("b", 0.0, 400.0, "k80")
    history.submit("c", 0.0)
    history.start("c", 0.0, "k80")
    history.at(200.0, JobPreempted(JobId("c"), 1, "Preempted"), JobVacated(JobId("c"), 1, 0.5))
    history.start("c", 300.0, "v100", attempt=2)
    history.end("c", 350.0, "lost", attempt=2)
    history.start("c", 400.0, "v100", attempt=3)
    history.end("c", 450.0, attempt=3)
    job = read(url).jobs[2]
    assert 1 / job.rates["v100"] == pytest.approx(50 + 200 / 4), "200 s of K80 are worth 50 s of V100"


def test_jobs_that_never_succeeded_are_left_out_and_counted(url: str) -> None:
    history = History(url)
    history.run("a", 0.0, 100.0, "v100")
    history.submit("b", 5.0)
    history.start("b", 5.0, "v100")
    history.end("b", 50.0, "error")
    history.submit("c", 6.0)
    found = read(url)
    assert [job.name for job in found.jobs] == ["a"]
    assert found.num_left_out == 2
    assert found.jct_h == pytest.approx(100 / 3600)


def test_the_default_cluster_is_the_most_that_was_held_at_once(url: str) -> None:
    history = History(url)
    for number in range(3):
        history.submit(f"a{number}", 0.0, gpus=2)
        history.start(f"a{number}", float(number), "v100", gpus=2)
    for number in range(3):
        history.end(f"a{number}", 100.0 + number)
    history.run("b", 200.0, 10.0, "k80")
    assert read(url).most_held == {"v100": 6, "k80": 1}


def test_only_jobs_of_the_time_asked_for_are_replayed_and_dependencies_among_them_kept(url: str) -> None:
    history = History(url)
    history.run("old", 0.0, 10.0, "v100")
    history.run("first", 10_000.0, 10.0, "v100")
    history.submit("second", 10_001.0, after=("first", "old"))
    history.start("second", 10_020.0, "v100")
    history.end("second", 10_030.0)
    found = read(url, within_s=3600.0)
    assert [job.name for job in found.jobs] == ["first", "second"]
    assert found.jobs[1].after == (0,)


def test_of_too_many_jobs_the_newest_are_read_and_the_others_counted(url: str) -> None:
    history = History(url)
    history.run("old", 0.0, 10.0, "v100")
    for number in range(5):
        history.run(f"a{number}", 10_000.0 + number, 10.0, "v100")
    found = recorded(url, 3600.0, most_jobs=3)
    assert [job.name for job in found.jobs] == ["a2", "a3", "a4"] and (found.num_left_out, found.num_too_many) == (0, 2)
    assert recorded(url, 3600.0, most_jobs=5).num_too_many == 0
    assert len(recorded(url, 1e9).jobs) == 6


def test_a_job_is_of_the_class_that_it_had_last(url: str) -> None:
    history = History(url)
    history.submit("a", 0.0)
    history.at(1.0, JobReprioritised(JobId("a"), "high", "ann"))
    history.start("a", 2.0, "v100")
    history.end("a", 10.0)
    assert [job.priority for job in read(url).jobs] == ["high"]


def test_a_cluster_without_a_measured_flavor_is_refused(url: str) -> None:
    History(url).run("a", 0.0, 100.0, "v100")
    with pytest.raises(UserError, match="never run on h100") as caught:
        read(url).within(["h100"])
    assert caught.value.code == "never_measured"


def replay(tmp_path: Path, url: str, *args: str) -> tuple[int, str, str]:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    environment = {"FABRIC_JOURNAL_URL": url}
    result = CliRunner().invoke(cli, ["replay", "--against", str(policy), *args], env=environment)
    return result.exit_code, result.stdout, result.stderr


def test_the_command_shows_what_another_cluster_would_have_made_of_it(tmp_path: Path, url: str) -> None:
    history = History(url)
    for number in range(4):
        history.submit(f"a{number}", 0.0)
    for number in range(4):
        history.start(f"a{number}", 100.0 * number, "v100")
        history.end(f"a{number}", 100.0 * (number + 1))
    status, out, err = replay(tmp_path, url, "--cluster", "v100=4", "-o", "json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["policy"] == "other"
    assert document["makespan_s"] == pytest.approx(100.0)
    assert document["recorded"] == {"jct_h": pytest.approx(250 / 3600), "makespan_s": pytest.approx(400.0), "left_out": 0}
    status, out, _ = replay(tmp_path, url)
    assert status == 0
    assert "as it went" in out


def test_without_a_journal_the_command_says_so_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.db"
    status, _, err = replay(tmp_path, f"sqlite:///{path}")
    assert status == 2
    assert "error[no_journal]" in err
    assert not path.exists()
