"""One check: what a specification demands, how hard, and the verdict on a server with its evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_apps.oip.conformance.target import Target

REQUIRED = "required"
"""The specification demands it of every server."""

RECOMMENDED = "recommended"
"""The specification leaves it open; clients and Triton expect it. Failing it fails no run."""

ROBUSTNESS = "robustness"
"""A wrong request that is known to end or to stall some server. Run only where asked for; failing it fails the run."""


_EXTENSION = "extension:"


def extension(name: str) -> str:
    """The level of an extension, by the name with which a server advertises it."""
    return _EXTENSION + name


class Failed(Exception):
    """The server did otherwise."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class Skipped(Exception):
    """The check has no object here: no such model, no gRPC address, an extension that the server does not advertise."""


Run = Callable[["Target"], None]


@dataclass(frozen=True, slots=True)
class Check:
    """`id`: `group.name`, stable. `section`: of the specification. `says`: what holds where it passes.

    `needs`: an extension without which the check has no object; an extension's own level implies it.
    """

    id: str
    level: str
    section: str
    says: str
    run: Run
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, `pass`, `fail` or `skip`. `got` is the reason of a skip; `exchange` the request and the answer of a failure."""

    check: Check
    verdict: str
    expected: str = ""
    got: str = ""
    exchange: str = ""
    took_s: float = 0.0


@dataclass(slots=True)
class Group:
    """Checks that share a section; `name` is the first part of their ids."""

    name: str
    section: str
    level: str = REQUIRED
    checks: list[Check] = field(default_factory=list)

    def check(self, name: str, *, level: str = "", section: str = "") -> Callable[[Run], Run]:
        """The function becomes a check; the first line of its docstring is what it says."""

        def added(run: Run) -> Run:
            says = (run.__doc__ or name).strip().splitlines()[0].removesuffix(".")
            self.add(name, says, run, level=level, section=section)
            return run

        return added

    def add(self, name: str, says: str, run: Run, *, level: str = "", section: str = "", needs: str = "") -> None:
        level = level or self.level
        needs = needs or level.partition(_EXTENSION)[2] or self.level.partition(_EXTENSION)[2]
        self.checks.append(Check(f"{self.name}.{name}", level, section or self.section, says, run, needs))

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)


def expect(holds: bool, expected: str, got: Any) -> None:
    """Raises: `Failed` where it does not hold."""
    if not holds:
        raise Failed(expected, got if isinstance(got, str) else repr(got))


def judged(check: Check, target: Target) -> Finding:
    """Run one check. No answer, and one that the kit cannot read, are failures too and never the end of the run."""
    started_s = time.monotonic()

    def finding(verdict: str, expected: str = "", got: str = "") -> Finding:
        exchange = target.evidence() if verdict == "fail" else ""
        return Finding(check, verdict, expected, got, exchange, time.monotonic() - started_s)

    target.forget()
    try:
        if check.needs and not target.has(check.needs):
            raise Skipped(f"the server does not advertise {check.needs}")
        check.run(target)
    except Skipped as skipped:
        return finding("skip", got=str(skipped))
    except Failed as failed:
        return finding("fail", failed.expected, failed.got)
    except Exception as error:
        return finding("fail", check.says, f"{type(error).__name__}: {error}")
    return finding("pass")
