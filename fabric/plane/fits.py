"""Whether this fabric can ever run a job, and what it is short of where it cannot.

Nodes count as if they were empty, quotas as if nobody held anything: what is refused here would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fabric.errors import NoFitError, RejectedError
from fabric.job import JobSpec, Option, Shape
from fabric.scheduler.core import Core
from fabric.scheduler.machines import EPSILON, Machine, Stock
from fabric.scheduler.quota import Quotas
from fabric.scheduler.record import JobRecord
from fabric.show import gib

NO_NODES = "no ready node"


def check_fits(core: Core, spec: JobSpec) -> None:
    """Raises: UnknownNameError (`unknown_flavor`), NoFitError with `shortfalls` (tier, what it is short of), RejectedError
    (`quota_too_small`) where nodes could hold it but its queue may never."""
    book, job = core.book, JobRecord(spec)
    ways = [way for way in book.ways.resolve(spec, None) if book.can_ever(job, way)]
    if not ways:
        raise _no_fit(core, job)
    limits = [limit_of(core, job, way) for way in ways]
    if all(limit is not None for limit in limits):
        least = min(way.units for way in ways)
        others = [queue.name for queue in book.policy.queues if queue.name != spec.queue]
        hint = f"ask for less, or use another queue: {', '.join(others)}" if others else "ask for less"
        message = f"{spec.name} needs {least:g} units, and may never hold as many: {limits[0]}"
        raise RejectedError(message, code="quota_too_small", hint=hint, queue=spec.queue)


def node_bytes(core: Core, shape: Shape) -> tuple[int, int]:
    """Memory of the smallest and of the largest open node that the shape may use; 0 where there is none."""
    stocks = core.book.machines.stocks
    each = [int(machine.total.get("memory", 0.0)) for flavor in core.book.ways.flavors(shape) for machine in _open(stocks.get(flavor))]
    return min(each, default=0), max(each, default=0)


def limit_of(core: Core, job: JobRecord, way: Option) -> str | None:
    """What of its queue's policy never lets the job hold so much, even while nobody else holds anything; None: nothing does."""
    policy, spec = core.book.policy, job.spec
    queue = core.book.standing.queue(spec.queue)
    if queue.max_units_per_user is not None and way.units > queue.max_units_per_user + EPSILON:
        return f"a user of {queue.name} may hold {queue.max_units_per_user:g} units"
    if not queue.nominal:
        return None
    shortage = Quotas(policy.queues, core.book.catalogue).shortage(spec.queue, way.flavor, way.units)
    return None if shortage is None else f"queue {spec.queue}: {shortage}"


def shortfall(core: Core, shape: Shape, flavor: str, memory_factor: float = 1.0) -> str:
    """What the nodes of a flavor lack to hold the shape at its least size."""
    stock = core.book.machines.stocks.get(flavor)
    machines = _open(stock)
    if stock is None or not machines:
        closed = 0 if stock is None else sum(len(level) for level in stock.levels.values())
        return f"{NO_NODES} ({f'{closed} cordoned or draining' if closed else 'none left'})"
    demand = core.book.ways.demand(shape, flavor, memory_factor)
    largest = {name: max(machine.total.get(name, 0.0) for machine in machines) for name in demand}
    short = [
        f"{_amount(name, amount)} on one node, the largest has {_amount(name, largest[name], bare=True)}"
        for name, amount in demand.items()
        if amount > largest[name] + EPSILON
    ]
    if short:
        return "needs " + "; ".join(short)
    asked = " and ".join(_amount(name, amount) for name, amount in demand.items())
    room = sum(_times(machine.total, demand, 1 if shape.spread else shape.num_bundles) for machine in machines)
    if not room:
        return f"needs {asked} together on one node"
    where = "nodes with" if shape.spread else "times"
    return f"needs {shape.num_bundles} {where} {asked}, and there is room for {room}"


def _no_fit(core: Core, job: JobRecord) -> NoFitError:
    spec, book = job.spec, core.book
    if not book.machines.nodes:
        hint = 'start nodes with `ray start --labels "$(fabric node labels)"`; `fabric doctor` names unlabelled ones'
        return NoFitError(f"{spec.name} fits nowhere: the fabric has no node", hint=hint, shortfalls=(), retryable=True)
    found = {(book.catalogue[flavor].tier, f"{flavor}: {shortfall(core, shape, flavor)}") for shape, flavor in _asked(core, spec)}
    shortfalls = tuple(sorted(found))
    lines = "; ".join(f"{tier} ({detail})" for tier, detail in shortfalls)
    is_passing = any("cordoned" in detail for _, detail in shortfalls)
    hint = "uncordon a node, or wait for one" if is_passing else "ask for less, or add a node that is large enough"
    return NoFitError(f"{spec.name} fits nowhere: {lines}", hint=hint, shortfalls=shortfalls, retryable=is_passing)


def _asked(core: Core, spec: JobSpec) -> Iterable[tuple[Shape, str]]:
    """Shapes with flavors; those without a node only where none of the shape's has one."""
    for shape in spec.shapes:
        flavors = core.book.ways.flavors(shape)
        here = [flavor for flavor in flavors if flavor in core.book.machines.stocks]
        yield from ((shape, flavor) for flavor in here or flavors)


def _open(stock: Stock | None) -> list[Machine]:
    levels = stock.levels.values() if stock is not None else ()
    return [machine for level in levels for machine in level.values() if machine.is_open]


def _times(total: Mapping[str, float], demand: Mapping[str, float], most: int) -> int:
    return min([most, *(int(total.get(name, 0.0) / amount + EPSILON) for name, amount in demand.items())])


def _amount(name: str, amount: float, *, bare: bool = False) -> str:
    text = gib(amount) if name == "memory" else f"{amount:g}"
    return text if bare else f"{text} {name}"
