"""Decides what a model is called and which arguments of `deploy` are sound."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Unpack, cast

from fabric.errors import UnknownNameError, UserError
from fabric.registry.names import MODEL_NAME
from fabric.types import Domain
from serve_apps.autoscaling.rule import Autoscale, parse_autoscale
from serve_apps.serve_options import ServeArguments, ServeOptions, class_options, parse_serve_options

DEFAULT_NUM_CPUS = 0.1
"""Reserved per replica. Small: with CPU autoscaling a replica's CPU is measured, and several must fit on a laptop."""
DOMAINS = ("cv", "nlp", "tabular", "other")

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked arguments of one `deploy`. `host` and `port` are None where the caller leaves them to Serve as it runs.

    `latency_target_ms` and `domain` (`cv`, `nlp`, `tabular`, `other`) are for the router: where the model meets the target at least cost.
    """

    name: str
    replicas: int
    autoscale: Autoscale | None
    num_cpus: float
    tier: str | None
    host: str | None
    port: int | None
    timeout_s: float
    options: ServeOptions = field(default_factory=ServeOptions)
    latency_target_ms: float | None = None
    domain: Domain = "other"

    def as_settings(self) -> dict[str, Any]:
        """What a replica and the directory need to know of it, as JSON."""
        scale = None if self.autoscale is None else asdict(self.autoscale)
        return {
            "replicas": self.replicas,
            "min_replicas": self.replicas if self.autoscale is None else self.autoscale.min,
            "autoscale": scale,
            "num_cpus": self.num_cpus,
            "timeout_s": self.timeout_s,
            "options": self.options.as_json(),
            "tier": self.tier,
            "latency_target_ms": self.latency_target_ms,
            "domain": self.domain,
        }


def plan_deploy(
    cls: type,
    *,
    replicas: int | None = None,
    autoscale: Mapping[str, Any] | None = None,
    name: str | None = None,
    num_cpus: float = DEFAULT_NUM_CPUS,
    tier: str | None = None,
    host: str | None = None,
    port: int | None = None,
    timeout_s: float = 180.0,
    latency_target_ms: float | None = None,
    domain: str = "other",
    **options: Unpack[ServeArguments],
) -> Plan:
    """The arguments of `deploy`, checked. Raises: `UserError` with the value and the allowed range."""
    scale = None if autoscale is None else parse_autoscale(autoscale)
    if replicas is None:
        replicas = 1 if scale is None else max(1, scale.min)  # also what goes to zero is first seen to run
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 1:
        raise UserError(f"replicas is {replicas!r}; it must be a whole number from 1", code="bad_replicas")
    if scale is not None and not scale.min <= replicas <= scale.max:
        raise UserError(
            f"replicas is {replicas}, outside autoscale's {scale.min} to {scale.max}",
            code="bad_replicas",
            hint="replicas is the number to start with",
        )
    chosen = service_name(cls) if name is None else name
    if not MODEL_NAME.fullmatch(chosen):
        raise UserError(f"service name {chosen!r} is not made of a-z, 0-9 and -", code="bad_name", hint="as in text-classifier")
    for what, value in (("num_cpus", num_cpus), ("timeout_s", timeout_s)):
        if not value > 0:
            raise UserError(f"{what} is {value!r}; it must be above 0", code=f"bad_{what}")
    if port is not None and not 1 <= port <= 65535:
        raise UserError(f"port is {port!r}; it must be 1 to 65535", code="bad_port")
    if latency_target_ms is not None and not latency_target_ms > 0:
        raise UserError(f"latency_target_ms is {latency_target_ms!r}; it must be above 0", code="bad_latency_target_ms")
    if domain not in DOMAINS:
        raise UnknownNameError.of("domain", domain, DOMAINS)
    chosen_options = parse_serve_options(options, class_options(cls))
    return Plan(
        chosen, replicas, scale, float(num_cpus), tier, host, port, timeout_s, chosen_options, latency_target_ms, cast("Domain", domain)
    )


def service_name(cls: type) -> str:
    """`TextClassifier` -> `text-classifier`, `OCRModel` -> `ocr-model`."""
    return _WORD_START.sub("-", cls.__name__).replace("_", "-").strip("-").lower()
