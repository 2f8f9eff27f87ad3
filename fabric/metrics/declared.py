"""Every metric of the fabric, by room: the one owner of their names, units and labels. The dashboard and docs/metrics.md are made of these.

Invariants: a name begins with `fabric_` and carries its unit; what is declared here is exported by one owner, named above each group.
"""

from __future__ import annotations

from fabric.metrics.metric import Kind, Metric

DECLARED: dict[str, Metric] = {}
"""By name, in the order of their rooms."""

SHORT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
LONG_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0)
RUN_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)


def _declare(kind: Kind, name: str, text: str, *labels: str, bounds: tuple[float, ...] = (), is_summed: bool = False) -> Metric:
    metric = DECLARED[f"fabric_{name}"] = Metric(f"fabric_{name}", kind, text, labels, bounds, is_summed)
    return metric


# ---- tiers: each pool tells of its own
_PLACE = ("tier", "flavor")
POOL_NODES = _declare("gauge", "pool_nodes", "Nodes, by health (ready, cordoned, draining, lost).", *_PLACE, "health")
POOL_CPUS = _declare("gauge", "pool_cpus", "CPUs of nodes that are not lost.", *_PLACE)
POOL_CPUS_USED = _declare("gauge", "pool_cpus_used", "CPUs in use, as Ray sees it: by tasks, jobs and replicas.", *_PLACE)
POOL_CPUS_BOOKED = _declare("gauge", "pool_cpus_booked", "CPUs kept free for served models that wait for room.", *_PLACE)
POOL_ACCELERATORS = _declare("gauge", "pool_accelerators", "Accelerators of nodes that are not lost.", *_PLACE)
POOL_ACCELERATORS_USED = _declare("gauge", "pool_accelerators_used", "Accelerators in use, as Ray sees it.", *_PLACE)
POOL_ACCELERATORS_BOOKED = _declare("gauge", "pool_accelerators_booked", "Accelerators kept free for served models that wait.", *_PLACE)
POOL_CPU_BUSY = _declare("gauge", "pool_cpu_busy_ratio", "How busy the CPUs really are: the nodes' mean, 0 to 1.", *_PLACE)
POOL_GPU_BUSY = _declare("gauge", "pool_gpu_busy_ratio", "How busy the GPUs really are: the mean of nodes that say, 0 to 1.", *_PLACE)
POOL_USD = _declare("gauge", "pool_usd_per_hour", "What the nodes cost, where prices are known.", *_PLACE)
POOL_IDLE_USD = _declare("gauge", "pool_idle_usd_per_hour", "The part of that which nothing has claimed.", *_PLACE)

# ---- queues and users: the scheduler
QUEUE_JOBS = _declare("gauge", "queue_jobs", "Jobs that have not ended, by state.", "queue", "state")
USER_JOBS = _declare("gauge", "user_jobs", "The same by user.", "user", "state")
QUEUE_OLDEST_WAIT = _declare("gauge", "queue_oldest_wait_seconds", "How long the job waits that was queued first.", "queue")
QUEUE_UNITS = _declare("gauge", "queue_units", "Accelerators, or CPUs of CPU flavors, that jobs hold.", "queue", *_PLACE)
QUEUE_USD = _declare("gauge", "queue_usd_per_hour", "What the jobs that run cost, where prices are known.", "queue")
USER_USD = _declare("gauge", "user_usd_per_hour", "The same by user.", "user")
QUOTA_NOMINAL = _declare("gauge", "quota_nominal_units", "The nominal quota, by what it counts.", "queue", "selector")
QUOTA_HELD = _declare("gauge", "quota_held_units", "What counts against it now.", "queue", "selector")
QUOTA_BORROWED = _declare("gauge", "quota_borrowed_units", "What is held beyond it, borrowed from the cohort.", "queue", "selector")
QUEUE_BUDGET_LEFT = _declare("gauge", "queue_budget_left_usd", "What is left of a queue's budget.", "queue")
JOBS_SUBMITTED = _declare("counter", "jobs_submitted", "Jobs accepted.", "queue", "user")
JOBS_ENDED = _declare("counter", "jobs_ended", "Jobs that ended, by final state.", "queue", "user", "state")
JOB_WAIT = _declare("histogram", "job_wait_seconds", "From submission to the first admission.", "queue", bounds=LONG_S)
JOB_PREEMPTIONS = _declare("counter", "job_preemptions", "Attempts told to leave, by reason code.", "queue", "reason")
JOB_RETRIES = _declare("counter", "job_retries", "Attempts that ended and are tried again, by outcome.", "queue", "outcome")
JOB_REFUSALS = _declare("counter", "job_lease_refusals", "Reservations that Ray did not confirm.", "queue")

# ---- the scheduler itself
DECISION = _declare("histogram", "scheduler_decision_seconds", "One pass of the core over what happened.", bounds=SHORT_S)
COMMIT = _declare("histogram", "scheduler_commit_seconds", "One transaction of the journal, on disk.", bounds=SHORT_S)
CYCLE = _declare("histogram", "scheduler_cycle_seconds", "A whole turn: decide, write, act.", bounds=SHORT_S)
PLAN = _declare("histogram", "scheduler_plan_seconds", "Processor time of the optimiser for one plan.", bounds=SHORT_S)
FACTS = _declare("counter", "scheduler_facts", "Facts taken in and decided.")
INBOX = _declare("gauge", "scheduler_inbox_batches", "Batches of facts that wait for their turn.")
JOURNAL_LAG = _declare("gauge", "journal_lag_seconds", "How long the oldest fact waits to be on disk; 0: none does.")
EPOCH = _declare("gauge", "scheduler_epoch", "Grows by one with every start of the scheduler.")

# ---- tasks: the profiler, from what workers report; calls in flight and reasons: each client of its own
TASK_CALLS = _declare("counter", "task_calls", "Calls measured, by outcome (ok, error, oom, timeout).", *_PLACE, "outcome")
TASK_RUN = _declare("histogram", "task_run_seconds", "Wall time of a call on its worker.", *_PLACE, bounds=RUN_S)
TASK_USD = _declare("counter", "task_cost_usd", "What calls cost: their time at the price of their share of a node.", *_PLACE, "queue")
TASK_IN_FLIGHT = _declare("gauge", "task_in_flight_calls", "Calls submitted and not finished.", *_PLACE, is_summed=True)
TASK_REASONS = _declare("counter", "task_sampled_reasons", "Why calls went where they went: of some of them.", *_PLACE, "reason")

# ---- serving: the directory of models, from what replicas report
_VERSION = ("model", "version")
MODEL_REPLICAS = _declare("gauge", "model_replicas", "Replicas that report.", *_VERSION, *_PLACE)
MODEL_REPLICAS_WANTED = _declare(
    "gauge", "model_replicas_wanted", "Replicas that there should be: the autoscaler's wish, else the setting.", *_VERSION
)
MODEL_REQUESTS = _declare("counter", "model_requests", "Requests answered, errors included.", *_VERSION)
MODEL_ERRORS = _declare("counter", "model_errors", "Answers of status 500 and above.", *_VERSION)
MODEL_LATENCY = _declare("histogram", "model_latency_seconds", "From arrival at the replica to the answer.", *_VERSION, bounds=SHORT_S)
MODEL_ONGOING = _declare("gauge", "model_ongoing_requests", "Requests that wait or run at replicas.", *_VERSION)
MODEL_CPU = _declare("gauge", "model_cpu_utilization_ratio", "CPU used of what a replica was given: the mean.", *_VERSION)
MODEL_GPU = _declare("gauge", "model_gpu_utilization_ratio", "How busy a replica's cards are: the mean.", *_VERSION)
MODEL_USD = _declare("gauge", "model_usd_per_hour", "What its replicas cost where they were placed, where prices are known.", *_VERSION)
MODEL_MEMORY = _declare("gauge", "model_memory_bytes", "What all replicas hold of memory.", *_VERSION)
MODEL_ROWS = _declare("counter", "model_rows", "Rows run through the model; by executions: the mean batch.", *_VERSION)
MODEL_EXECUTIONS = _declare("counter", "model_executions", "Calls of the model, each for one batch.", *_VERSION)
MODEL_SCALINGS = _declare("counter", "model_scalings", "Decisions of the autoscaler, by reason code.", *_VERSION, "reason")
MODEL_LOST = _declare("counter", "model_replicas_lost", "Replicas that fell silent without a good-bye.", *_VERSION)
MODEL_TRAFFIC = _declare("gauge", "model_traffic_ratio", "The version's share of requests that name none, 0 to 1.", *_VERSION)

# ---- rollouts: the directory of models
ROLLOUT_STATE = _declare("gauge", "rollout_state", "1 for the state that a model's last rollout is in.", "model", "state")
ROLLOUT_STEP = _declare("gauge", "rollout_step_ratio", "The challenger's share at this step, 0 to 1.", "model")
ROLLOUT_GUARD = _declare("gauge", "rollout_guard", "1 for the verdict of each guard now.", "model", "guard", "verdict")
