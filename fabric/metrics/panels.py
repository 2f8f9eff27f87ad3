"""What stands on the dashboard: rows of panels, each with the queries that fill it. Pure description; `fabric.metrics.grafana` draws it."""

from __future__ import annotations

from dataclasses import dataclass

from fabric.metrics import declared as m
from fabric.metrics.metric import Metric
from fabric.metrics.promql import RATE, mean, most, part, quantile, rate, rays, rise, total

USD_PER_HOUR = "currencyUSD"
SECONDS, RATIO, BYTES, PER_SECOND, COUNT = "s", "percentunit", "bytes", "ops", "short"


@dataclass(frozen=True, slots=True)
class Query:
    """`legend`: Grafana's form, `{{label}}` stands for a label's value."""

    text: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`unit`: Grafana's id of it. `width` of 24. `is_stacked`: the lines add up to a whole. `is_number`: the last values, large."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    help: str = ""
    width: int = 8
    is_stacked: bool = False
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """`repeated`: the variable whose every value gets a row of its own; empty: one row."""

    title: str
    panels: tuple[Panel, ...]
    repeated: str = ""


def _panel(title: str, unit: str, *queries: Query, text: str = "", width: int = 8, stacked: bool = False, number: bool = False) -> Panel:
    return Panel(title, unit, queries, text, width, stacked, number)


def _quantiles(metric: Metric, *by: str, over: str = RATE) -> tuple[Query, ...]:
    labels = "".join(f" {{{{{label}}}}}" for label in by)
    return tuple(Query(quantile(frac, metric, *by, over=over), f"p{frac * 100:g}{labels}") for frac in (0.5, 0.95))


OVERVIEW = Row(
    "Overview",
    (
        _panel("Nodes ready", COUNT, Query(total(m.POOL_NODES, health="ready")), width=4, number=True),
        _panel("Paid", USD_PER_HOUR, Query(total(m.POOL_USD)), text="Dollars per hour.", width=4, number=True),
        _panel(
            "Idle", USD_PER_HOUR, Query(total(m.POOL_IDLE_USD)), text="Dollars per hour that nothing has claimed.", width=4, number=True
        ),
        _panel("Jobs running", COUNT, Query(total(m.QUEUE_JOBS, state="RUNNING")), width=4, number=True),
        _panel("Jobs waiting", COUNT, Query(total(m.QUEUE_JOBS, state="PENDING")), width=4, number=True),
        _panel("Requests", "reqps", Query(rate(m.MODEL_REQUESTS)), width=4, number=True),
    ),
)
TIERS = Row(
    "Tier $tier",
    (
        _panel("Nodes by health", COUNT, Query(total(m.POOL_NODES, "flavor", "health"), "{{flavor}} {{health}}"), stacked=True),
        _panel(
            "Accelerators",
            COUNT,
            Query(total(m.POOL_ACCELERATORS, "flavor"), "{{flavor}} there are"),
            Query(total(m.POOL_ACCELERATORS_USED, "flavor"), "{{flavor}} used"),
            Query(total(m.POOL_ACCELERATORS_BOOKED, "flavor"), "{{flavor}} booked for models"),
        ),
        _panel(
            "CPUs",
            COUNT,
            Query(total(m.POOL_CPUS, "flavor"), "{{flavor}} there are"),
            Query(total(m.POOL_CPUS_USED, "flavor"), "{{flavor}} used"),
            Query(total(m.POOL_CPUS_BOOKED, "flavor"), "{{flavor}} booked for models"),
        ),
        _panel(
            "Money per hour",
            USD_PER_HOUR,
            Query(total(m.POOL_USD, "flavor"), "{{flavor}} paid"),
            Query(total(m.POOL_IDLE_USD, "flavor"), "{{flavor}} idle"),
        ),
        _panel(
            "Busy",
            RATIO,
            Query(mean(m.POOL_CPU_BUSY, "flavor"), "{{flavor}} CPU"),
            Query(mean(m.POOL_GPU_BUSY, "flavor"), "{{flavor}} GPU"),
            text="What was measured, not what was asked for.",
        ),
        _panel("Held by jobs", COUNT, Query(total(m.QUEUE_UNITS, "flavor", "queue"), "{{flavor}} {{queue}}"), stacked=True),
    ),
    repeated="tier",
)
QUEUES = Row(
    "Queues and users",
    (
        _panel("Jobs by queue", COUNT, Query(total(m.QUEUE_JOBS, "queue", "state"), "{{queue}} {{state}}"), stacked=True),
        _panel("Jobs by user", COUNT, Query(total(m.USER_JOBS, "user", "state"), "{{user}} {{state}}"), stacked=True),
        _panel(
            "Waiting time",
            SECONDS,
            *_quantiles(m.JOB_WAIT, "queue", over="1h"),
            Query(most(m.QUEUE_OLDEST_WAIT, "queue"), "waits now {{queue}}"),
            text="Of jobs that were admitted in the last hour; and of the one that waits for longest.",
        ),
        _panel("Submitted", COUNT, Query(rise(m.JOBS_SUBMITTED, "queue", over="1h"), "{{queue}}"), text="In the last hour."),
        _panel("Ended", COUNT, Query(rise(m.JOBS_ENDED, "queue", "state", over="1h"), "{{queue}} {{state}}"), text="In the last hour."),
        _panel(
            "Preempted, tried again, refused",
            COUNT,
            Query(rise(m.JOB_PREEMPTIONS, "queue", "reason", over="1h"), "preempted {{queue}} {{reason}}"),
            Query(rise(m.JOB_RETRIES, "queue", "outcome", over="1h"), "again {{queue}} {{outcome}}"),
            Query(rise(m.JOB_REFUSALS, "queue", over="1h"), "no lease {{queue}}"),
            text="In the last hour.",
        ),
        _panel(
            "Quota",
            COUNT,
            Query(total(m.QUOTA_NOMINAL, "queue", "selector"), "{{queue}} {{selector}} nominal"),
            Query(total(m.QUOTA_HELD, "queue", "selector"), "{{queue}} {{selector}} held"),
            Query(total(m.QUOTA_BORROWED, "queue", "selector"), "{{queue}} {{selector}} borrowed"),
        ),
        _panel(
            "Money per hour",
            USD_PER_HOUR,
            Query(total(m.QUEUE_USD, "queue"), "queue {{queue}}"),
            Query(total(m.USER_USD, "user"), "user {{user}}"),
        ),
        _panel("Budget left", USD_PER_HOUR, Query(total(m.QUEUE_BUDGET_LEFT, "queue"), "{{queue}}")),
    ),
)
SCHEDULER = Row(
    "Scheduler",
    (
        _panel("Decision", SECONDS, *_quantiles(m.DECISION), text="One pass of the core."),
        _panel("Commit", SECONDS, *_quantiles(m.COMMIT), Query(most(m.JOURNAL_LAG), "not on disk since"), text="One transaction."),
        _panel("Cycle", SECONDS, *_quantiles(m.CYCLE), text="A whole turn: decide, write, act."),
        _panel("Optimiser", SECONDS, *_quantiles(m.PLAN, over="15m"), text="Processor time for one plan."),
        _panel(
            "Facts",
            PER_SECOND,
            Query(rate(m.FACTS), "decided"),
            Query(most(m.INBOX), "batches that wait"),
            text="The second line is a number.",
        ),
        _panel(
            "Head node",
            COUNT,
            Query(rays("ray_node_cpu_utilization", "avg", "instance"), "CPU % {{instance}}"),
            Query(most(m.EPOCH), "epoch"),
            text="The epoch grows with every start of the scheduler.",
        ),
    ),
)
TASKS = Row(
    "Tasks",
    (
        _panel("Calls", PER_SECOND, Query(rate(m.TASK_CALLS, "flavor", "outcome"), "{{flavor}} {{outcome}}"), stacked=True),
        _panel("Run time", SECONDS, *_quantiles(m.TASK_RUN, "flavor")),
        _panel(
            "Cost", USD_PER_HOUR, Query(f"3600 * {rate(m.TASK_USD, 'queue', 'flavor')}", "{{queue}} {{flavor}}"), text="Dollars per hour."
        ),
        _panel("In flight", COUNT, Query(total(m.TASK_IN_FLIGHT, "flavor"), "{{flavor}}"), stacked=True),
        _panel(
            "Why they went there",
            RATIO,
            Query(f"{rate(m.TASK_REASONS, 'reason')} / ignoring(reason) group_left {rate(m.TASK_REASONS)}", "{{reason}}"),
            text="Of some of them, evenly taken.",
            stacked=True,
        ),
        _panel("Tasks in Ray", COUNT, Query(rays("ray_tasks", "sum", "State"), "{{State}}"), text="Ray's own count.", stacked=True),
    ),
)
_OF = "{{model}} {{version}}"
SERVING = Row(
    "Serving",
    (
        _panel("Requests", "reqps", Query(rate(m.MODEL_REQUESTS, "model", "version"), _OF), stacked=True),
        _panel("Errors", RATIO, Query(part(m.MODEL_ERRORS, m.MODEL_REQUESTS, "model", "version"), _OF)),
        _panel("Latency", SECONDS, *_quantiles(m.MODEL_LATENCY, "model", "version")),
        _panel(
            "Replicas",
            COUNT,
            Query(total(m.MODEL_REPLICAS, "model", "version", "flavor"), _OF + " {{flavor}}"),
            Query(total(m.MODEL_REPLICAS_WANTED, "model", "version"), _OF + " wanted"),
        ),
        _panel(
            "Autoscaler",
            COUNT,
            Query(rise(m.MODEL_SCALINGS, "model", "reason", over="1h"), "{{model}} {{reason}}"),
            text="In the last hour.",
        ),
        _panel("Lost replicas", COUNT, Query(rise(m.MODEL_LOST, "model", over="1h"), "{{model}}"), text="In the last hour."),
        _panel(
            "Mean batch",
            COUNT,
            Query(part(m.MODEL_ROWS, m.MODEL_EXECUTIONS, "model", "version"), _OF),
            text="Rows for each call of the model.",
        ),
        _panel(
            "Use",
            RATIO,
            Query(mean(m.MODEL_CPU, "model", "version"), f"CPU {_OF}"),
            Query(mean(m.MODEL_GPU, "model", "version"), f"GPU {_OF}"),
            Query(total(m.MODEL_ONGOING, "model", "version"), f"ongoing {_OF}"),
            text="Of what each replica was given; and the requests that wait or run.",
        ),
        _panel(
            "Money and memory",
            USD_PER_HOUR,
            Query(total(m.MODEL_USD, "model", "version"), f"$/h {_OF}"),
            Query(f"{total(m.MODEL_MEMORY, 'model', 'version')} / 1e9", f"GB {_OF}"),
        ),
    ),
)
ROLLOUTS = Row(
    "Rollouts",
    (
        _panel("State", COUNT, Query(f"{total(m.ROLLOUT_STATE, 'model', 'state')} > 0", "{{model}} {{state}}"), stacked=True),
        _panel(
            "Traffic",
            RATIO,
            Query(total(m.MODEL_TRAFFIC, "model", "version"), _OF),
            Query(total(m.ROLLOUT_STEP, "model"), "{{model}} challenger"),
        ),
        _panel(
            "Guards",
            COUNT,
            Query(f"{total(m.ROLLOUT_GUARD, 'model', 'guard', 'verdict')} > 0", "{{model}} {{guard}} {{verdict}}"),
            stacked=True,
        ),
    ),
)
ROWS = (OVERVIEW, TIERS, QUEUES, SCHEDULER, TASKS, SERVING, ROLLOUTS)
