"""The product's scheduler on virtual time: charged restarts, failures, unknown work, and the command around it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from fabric.cli.main import cli
from fabric.errors import UserError
from fabric.job import JobEstimate, JobId, JobSpec, Shape
from fabric.job_events import JobEstimated
from fabric.policy import Policy, PriorityClass, QueuePolicy
from fabric.sim.beliefs import Unknown
from fabric.sim.check import problems
from fabric.sim.cluster import make_cluster
from fabric.sim.csv_trace import read_csv
from fabric.sim.engine import SimJob
from fabric.sim.events import read_leases
from fabric.sim.failures import FailureModel
from fabric.sim.scenario import Outcome, Scenario, simulate
from fabric.sim.trace import TraceJob
from profiler.correction import outlived

CAPACITY = {"v100": 2, "k80": 2}
TRACE = """name,arrival_s,gpus,v100_s,k80_s,user,class,deadline_s
a,0,1,1000,3000,ann,,
b,0,2,2000,5000,bob,,9000
c,500,1,1000,,ann,,
d,700,1,600,1200,bob,,
e,4000,2,100,100,ann,,4300
"""


def jobs(text: str = TRACE) -> list[TraceJob]:
    return read_csv(Path("a.csv"), text, list(CAPACITY))


def checked(scenario: Scenario) -> Outcome:
    outcome = simulate(scenario)
    assert outcome.figures.failed == 0
    told = outcome.figures.as_json()
    assert problems(scenario.jobs, outcome.leases, scenario.cluster.capacity, restart_s=scenario.policy.restart_s, figures=told) == []
    return outcome


@pytest.mark.parametrize("steps", ["known", "estimated", "unknown"])
@pytest.mark.parametrize("restart_s", [0.0, 60.0])
def test_what_is_known_of_the_work_changes_decisions_but_never_what_a_job_needs(steps: str, restart_s: float) -> None:
    scenario = Scenario(jobs(), make_cluster(CAPACITY), Policy(objective="jct", restart_s=restart_s), steps)  # type: ignore[arg-type]
    outcome = checked(scenario)
    assert sum(lease.steps for lease in outcome.leases) == pytest.approx(5.0)


def test_the_same_seed_gives_the_same_leases_and_another_one_other_failures() -> None:
    def leases(seed: int) -> list[str]:
        failures = FailureModel(mtbf_h=0.5, repair_s=300.0, checkpoint_s=100.0)
        scenario = Scenario(jobs(), make_cluster(CAPACITY), Policy(), "estimated", failures, seed, planner=None)
        return [lease.as_json() for lease in checked(scenario).leases]

    assert leases(0) == leases(0) != leases(1)


def test_a_job_loses_at_most_a_checkpoint_interval_with_its_node() -> None:
    alone = jobs("name,arrival_s,gpus,v100_s,k80_s\na,0,1,10000,\n")
    failures = FailureModel(mtbf_h=1.0, repair_s=600.0, checkpoint_s=500.0)
    cluster = make_cluster({"v100": 1, "k80": 1})
    outcome = checked(Scenario(alone, cluster, Policy(restart_s=0.0), failures=failures, planner=None))
    assert outcome.figures.restarts > 0
    for lease in outcome.leases[:-1]:
        lost_s = (lease.end_s - lease.start_s) - lease.steps * 10000
        assert 0 <= lost_s <= 500


def test_without_checkpoints_on_failure_work_would_be_lost_so_failures_cost_time() -> None:
    calm = checked(Scenario(jobs(), make_cluster(CAPACITY), Policy(), planner=None))
    storm = checked(Scenario(jobs(), make_cluster(CAPACITY), Policy(), failures=FailureModel(0.3, 600.0), planner=None))
    assert storm.figures.makespan_s > calm.figures.makespan_s


def test_a_class_of_higher_value_goes_first() -> None:
    text = "name,arrival_s,gpus,v100_s,k80_s,class\n" + "".join(f"b{n},0,1,1000,,batch\n" for n in range(6)) + "p,10,1,100,,prod\n"
    policy = Policy(classes=(PriorityClass("prod", value=10), PriorityClass("batch")), restart_s=10.0)
    outcome = checked(Scenario(jobs(text), make_cluster(CAPACITY), policy, planner=None))
    assert outcome.end_s[6] <= 10 + 10 + 100 + 10


@pytest.mark.parametrize(
    ("text", "policy", "code"),
    [
        ("name,arrival_s,gpus,v100_s,k80_s\n", Policy(), "empty_trace"),
        ("name,arrival_s,gpus,v100_s,k80_s\na,0,3,5,5\n", Policy(), "gang_too_large"),
        ("name,arrival_s,gpus,v100_s,k80_s,queue\na,0,1,5,5,q\n", Policy(queues=(QueuePolicy("r"),)), "unknown_queue"),
        ("name,arrival_s,gpus,v100_s,k80_s\na,0,2,5,5\n", Policy(queues=(QueuePolicy("default", nominal={"gpu": 1.0}),)), "never_starts"),
    ],
)
def test_what_can_never_run_is_refused(text: str, policy: Policy, code: str) -> None:
    with pytest.raises(UserError) as caught:
        simulate(Scenario(jobs(text), make_cluster(CAPACITY), policy, planner=None))
    assert caught.value.code == code
    assert caught.value.hint


# -- beliefs


class Turned:
    """Takes the slow flavor for the fast one until progress shows otherwise."""

    report_s = 60.0

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def first(self, job: SimJob) -> JobEstimate:
        return JobEstimate(job.work, {way: 1.0 / rate for way, rate in job.true_rates.items()})

    def progressed(self, job: SimJob, done: float, flavor: str) -> list[JobEstimated]:
        self.seen.append((job.spec.name, flavor))
        return [JobEstimated(job.spec.job_id, JobEstimate(job.work, job.true_rates))]

    def ended(self, job: SimJob) -> list[JobEstimated]:
        return []


def test_rates_that_are_believed_decide_where_a_job_goes_until_it_shows_its_own() -> None:
    text = "name,arrival_s,gpus,v100_s,k80_s\na,0,1,10000,90000\n"
    beliefs = Turned()
    outcome = checked(Scenario(jobs(text), make_cluster(CAPACITY), Policy(objective="jct", restart_s=60.0), beliefs=beliefs))
    assert [lease.flavor for lease in outcome.leases] == ["k80", "v100"]
    assert beliefs.seen[0] == ("a", "k80")
    assert outcome.leases[0].end_s == pytest.approx(120.0)


def sim_job(name: str, seconds: float, family: str = "f") -> SimJob:
    spec = JobSpec(JobId(name), name, "u", "default", "", "program", (Shape("", 1),), family, 0.0)
    return SimJob(spec, 0.0, seconds, {(0, "v100"): 1.0})


def told(estimate: JobEstimate | None) -> float:
    assert estimate is not None
    return estimate.work


def test_a_family_is_known_better_with_every_job_that_ends() -> None:
    beliefs = Unknown()
    first = beliefs.first(sim_job("a", 100.0))
    assert first.work == pytest.approx(3600.0)
    for n in range(20):
        beliefs.first(one := sim_job(f"b{n}", 100.0 + n))
        beliefs.ended(one)
    later = beliefs.first(sim_job("c", 100.0))
    assert later.log_sd < first.log_sd
    assert later.work == pytest.approx(110.0, rel=0.7)
    assert told(beliefs.first(sim_job("d", 100.0, "other"))) > later.work, "another family has only the others to go by"


def test_a_waiting_job_learns_from_the_end_of_its_family() -> None:
    beliefs = Unknown()
    waiting, short = sim_job("a", 60.0), sim_job("b", 60.0)
    before = told(beliefs.first(waiting))
    beliefs.first(short)
    (news,) = beliefs.ended(short)
    assert news.job_id == "a"
    assert news.estimate.work < before


def test_a_job_that_outlives_its_estimate_is_expected_to_take_longer_and_never_less_than_it_has() -> None:
    beliefs = Unknown()
    job = sim_job("a", 1e6)
    last = told(beliefs.first(job))
    for done in (2000.0, 4000.0, 20_000.0, 400_000.0):
        for news in beliefs.progressed(job, done, "v100"):
            assert news.estimate.work > last
            last = news.estimate.work
        assert last > done


@pytest.mark.parametrize("done", [-50.0, 0.0, 1.0, 3.0, 60.0])
def test_the_rest_of_a_normal_is_above_what_is_done(done: float) -> None:
    median, spread = outlived(0.0, 1.0, done)
    assert median > done
    assert 0 < spread < 1.01
    assert math.isfinite(median)


# -- the command


def invoke(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["simulate", *args])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text(TRACE)
    return path


def test_the_command_prints_every_figure_its_bounds_and_their_ratios_and_writes_leases_that_bear_them_out(trace: Path) -> None:
    events = trace.parent / "leases.jsonl"
    args = ["--cluster", "v100=2,k80=2", "--restart-s", "30", "--objective", "jct", "--events", str(events), "-o", "json"]
    status, out, err = invoke(str(trace), *args)
    assert (status, err) == (0, "")
    document = json.loads(out)
    for name in ("jct_h", "jct_p99_h", "makespan_s", "cost_usd", "misses", "utilisation", "restarts", "leases_kept_frac", "worst_fairness"):
        assert isinstance(document[name], int | float), name
    assert problems(jobs(), read_leases(events), CAPACITY, restart_s=30.0, figures=document, usd_per_h=document["usd_per_h"]) == []
    for name in ("jct_h", "makespan_s", "cost_usd"):
        assert 0 < document["bounds"][name] <= document[name] * (1 + 1e-9), name
        assert document["ratios"][name] >= 1 - 1e-9, name
    assert document["utilisation"] <= document["bounds"]["utilisation"] + 1e-9


def test_the_command_prints_a_table_for_people(trace: Path) -> None:
    status, out, _ = invoke(str(trace), "--cluster", "v100=2,k80=2", "--no-bounds")
    assert status == 0
    assert "mean completion time" in out
    assert "bound" in out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["nowhere.trace"], "no_such_file"),
        (["{trace}", "--cluster", "v100=2,h100=1"], "unknown_device"),
        (["{trace}", "--cluster", "v100=1,k80=1"], "gang_too_large"),
        (["{trace}", "--cluster", "v100:2"], "bad_cluster"),
        (["{trace}", "--cluster", "v100=2,k80=2", "--policy", "nowhere.yaml"], "no_such_file"),
        (["{trace}", "--cluster", "v100=2,k80=2", "--failures", "often"], "bad_failures"),
        (["{trace}", "--cluster", "v100=2,k80=2", "--prices", "v100=free"], "bad_prices"),
        (["{trace}", "--cluster", "v100=2,k80=2", "--events", "/nowhere/leases.jsonl"], "unwritable_file"),
    ],
)
def test_bad_input_is_refused_with_a_code_and_a_hint(trace: Path, args: list[str], code: str) -> None:
    status, out, err = invoke(*(arg.format(trace=trace) for arg in args))
    assert (status, out) == (2, "")
    assert err.startswith(f"error[{code}]: ")
    assert "hint: " in err


def test_a_gavel_trace_asks_for_its_throughputs(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    path.write_text("\t".join(("A3C", "c", "d", "s", "1", "10", "1", "1", "-1", "0")) + "\n")
    status, _, err = invoke(str(path))
    assert status == 2
    assert "error[no_throughputs]" in err
