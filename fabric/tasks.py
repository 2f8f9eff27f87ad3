"""`@fabric.task`: a Python function that runs where it finishes best for the money.

A call is routed here, in the caller's process, from the cached table; it costs one Ray hop and nothing else, and its
result is a plain ObjectRef. A task may have variants, each with its own resources.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import CodeType
from typing import Any, Generic, ParamSpec, TypeVar, overload

import ray

from fabric import client as fabric_client
from fabric.client import Client, selector
from fabric.errors import UnknownNameError, UserError
from fabric.mapping import Map
from fabric.options import VARIANT_OPTIONS, TaskOptions, check_options
from fabric.routing import Candidate, Plan
from fabric.sizes import bucket, input_bytes, max_bytes, size_step
from fabric.types import DOMAINS, PHASES, Domain, Fingerprint, Phase, Variant
from fabric.worker import measured
from profiler.fingerprint import fingerprint

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function of the fabric. Made by `@fabric.task`; called by `.remote`, `.map` or `.local`."""

    def __init__(self, fn: Callable[P, R], options: TaskOptions, *, domain: Domain | None, phase: Phase | None) -> None:
        functools.update_wrapper(self, fn)
        self.name = options.name or fn.__qualname__
        self.domain = domain
        self.phase = phase
        self._implementations: dict[str, tuple[Variant, Callable[..., Any]]] = {}
        self._options = options
        self._latest: Callable[..., Any] = fn
        self._local = fn
        self._key = f"{self.name}@{_code_hash(fn)}"
        self._client: Client | None = None
        self._seen: Fingerprint | None = None
        self._plans: dict[int, tuple[tuple[int, int], Plan]] = {}
        self._remotes: dict[str, Any] = {}
        self._handles: dict[tuple[Any, ...], Any] = {}
        self._add(options.variant("default", _code_hash(fn)), fn)

    @property
    def key(self) -> str:
        """What the profile is kept under: the name and a hash of the function's code, so that changed code is measured anew."""
        return self._key

    def _reset(self) -> None:
        """Forget everything that was worked out from the implementations and the client."""
        self._client = self._seen = None
        self._plans, self._remotes, self._handles = {}, {}, {}

    def __reduce__(self) -> tuple[Any, ...]:
        # A task that travels (a task that calls a task) is bound anew where it arrives.
        return (_rebuild, (self._local, self._options, self.domain, self.phase, dict(self._implementations)))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        raise UserError(
            f"task {self.name} was called like a function", code="task_called", hint=f"{self.name}.remote(…), .map(…) or .local(…)"
        )

    @property
    def variants(self) -> tuple[Variant, ...]:
        return tuple(variant for variant, _ in self._implementations.values())

    def variant(self, *, flavor: str, name: str | None = None, **resources: Any) -> Callable[[Callable[..., Any]], Task[P, R]]:
        """Add an implementation for a flavor (by its name, family, kind or tier) with resources of its own.

        `num_cpus`, `num_gpus`, `memory` (bytes), `resources` (Ray's custom ones). An accelerator named without an amount
        means one unit of it. A variant for `cpu` replaces the function itself. Decorators stack. Returns the task.
        """
        for option in resources:
            if option not in VARIANT_OPTIONS:
                raise UnknownNameError.of("variant option", option, VARIANT_OPTIONS)
        options = check_options({"flavor": flavor, **resources}, self.name)

        def register(fn: Callable[..., Any]) -> Task[P, R]:
            plain = fn._latest if isinstance(fn, Task) else fn
            _check_function(plain)
            self._latest = plain
            variant = options.variant(name or flavor, _code_hash(plain))
            if flavor == "cpu" and not self._options.flavor:
                self._implementations.pop("default", None)
            self._add(variant, plain)
            self._reset()
            return self

        return register

    def _add(self, variant: Variant, fn: Callable[..., Any]) -> None:
        self._implementations[variant.name] = (variant, fn)
        self._is_auto = any(each.auto for each in self.variants)

    # -- calling ---------------------------------------------------------------------------------------------------------

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it here, without Ray."""
        return self._local(*args, **kwargs)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Submit one call; returns a plain `ray.ObjectRef`.

        Raises: NoFitError where no node can ever run it, UnavailableError where there is no fabric.
        """
        return self.submit(args, kwargs)[0]

    def submit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Candidate]:
        """`remote`, returning the candidate that was chosen as well."""
        client = self._client
        if client is None or client is not fabric_client.attached():
            client = self._bind()
        size = input_bytes(args, kwargs)
        size = size_step(size) if self._is_auto else max_bytes(bucket(size))
        cached = self._plans.get(size)
        if cached is None or cached[0] != client.version_of(self._key):
            cached = self._compile(client, size, args, kwargs)
        plan = cached[1]
        untried = None if plan.untried is None else client.take_untried(plan, self._key, size)
        candidate = untried or plan.choose()
        if untried is None and plan.is_second_best(candidate) and client.sweep_if_cheap():
            candidate = plan.choose()
        load = plan.load()
        ref = self._handle(candidate).remote(*args, **kwargs)
        client.note(ref, self._key, candidate, plan, load)
        return ref, candidate

    def map(self, items: Iterable[Any], *, return_exceptions: bool = False, progress: bool | None = None) -> list[R]:
        """One call per item, results in the items' order, a bounded window in flight.

        A bar shows on a terminal (`progress` forces it on or off). The first error cancels what has not started and is
        raised as its own type; with `return_exceptions` errors stand in the list. A call that ran out of memory is
        retried with more, one whose flavor lost its last node is routed anew. Ctrl-C cancels what has not started.
        """
        return Map(self, items, return_exceptions=return_exceptions, progress=progress).run()

    # -- binding ---------------------------------------------------------------------------------------------------------

    def _bind(self) -> Client:
        self._reset()
        self._client = fabric_client.current()
        return self._client

    def _compile(self, client: Client, size: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[int, int], Plan]:
        if size not in self._plans:
            seen = fingerprint(self._local, args, kwargs, domain=self.domain, phase=self.phase)
            # The first call that shows what the task is decides: later ones of another size may show less.
            if self._seen is None or self._seen.domain == "other":
                self._seen = seen
                client.describe(self.key, seen, self.variants)
        version = client.version_of(self.key)
        self._plans[size] = (version, client.plan(self.key, size, self.variants))
        return self._plans[size]

    def _handle(self, candidate: Candidate) -> Any:
        key = (candidate.variant.name, candidate.flavor, candidate.resources, candidate.capacity.closed)
        handle = self._handles.get(key)
        if handle is None:
            handle = self._handles[key] = self._build_handle(candidate)
        return handle

    def _build_handle(self, candidate: Candidate) -> Any:
        name = candidate.variant.name
        if name not in self._remotes:
            config = self._bind().config if self._client is None else self._client.config
            fn = self._implementations[name][1]
            who, timeout_s = {"user": config.user, "queue": config.queue}, self._options.timeout_s
            self._remotes[name] = ray.remote(measured(fn, task=self.key, variant=name, timeout_s=timeout_s, **who))
        resources = candidate.resources
        options = self._options.ray_options()
        return self._remotes[name].options(
            name=self.name,
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus,
            memory=resources.memory_bytes or None,
            resources=dict(resources.custom),
            label_selector=selector(candidate.capacity),
            **options,
        )


def _code_hash(fn: Callable[..., Any]) -> str:
    """Of what a function does, as far as its own code shows: instructions, constants and names, nested code included."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    shown = fn.__qualname__ if code is None else repr(_walk(code))
    return hashlib.sha256(shown.encode()).hexdigest()[:8]


def _walk(code: CodeType) -> tuple[Any, ...]:
    return (code.co_code, [_constant(constant) for constant in code.co_consts], code.co_names)


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _walk(value)
    # The order of a set differs from process to process.
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


def _rebuild(
    fn: Callable[..., Any], options: TaskOptions, domain: Domain | None, phase: Phase | None, implementations: dict[str, Any]
) -> Task[..., Any]:
    task: Task[..., Any] = Task(fn, options, domain=domain, phase=phase)
    task._implementations = implementations
    task._is_auto = any(variant.auto for variant in task.variants)
    return task


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(*, domain: Domain | None = None, phase: Phase | None = None, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(fn: Callable[..., Any] | None = None, /, *, domain: Domain | None = None, phase: Phase | None = None, **options: Any) -> Any:
    """Make a function a task. Domain and phase are inferred from what it is and is given, unless declared here.

    Options: `num_cpus` (1), `num_gpus`, `memory` (bytes), `resources` (Ray's custom ones; or "auto": amounts that are not given are
    sized by what earlier calls needed, the first ones are probes), `flavor` (where the function itself may run),
    `name`, `max_retries` (after a worker or node died), `runtime_env`, `timeout` (of one call: seconds, or "5m"). A call that holds more
    memory than it asked for is ended as OutOfMemory.

    Raises: UnknownNameError, UserError.
    """
    if domain is not None and domain not in DOMAINS:
        raise UnknownNameError.of("domain", domain, DOMAINS)
    if phase is not None and phase not in PHASES:
        raise UnknownNameError.of("phase", phase, PHASES)

    def decorate(fn: Callable[..., Any]) -> Task[..., Any]:
        _check_function(fn)
        return Task(fn, check_options(options, fn.__qualname__), domain=domain, phase=phase)

    return decorate if fn is None else decorate(fn)


def _check_function(fn: Callable[..., Any]) -> None:
    if inspect.isclass(fn) or not callable(fn) or not hasattr(fn, "__qualname__"):
        raise UserError(
            f"a task is a function, not {fn!r}", code="not_a_function", hint="for a class use ray.remote actors or a ModelService"
        )
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UserError(f"{fn.__qualname__}: a task returns one value; async functions and generators do not", code="not_a_function")
