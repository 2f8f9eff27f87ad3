"""All checks, in the order in which they run: what others depend on first, what may harm a server last."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from serve_apps.oip.conformance.binary import BINARY
from serve_apps.oip.conformance.check import ROBUSTNESS, Check
from serve_apps.oip.conformance.errors import ERRORS
from serve_apps.oip.conformance.extensions import GENERATE, REPOSITORY, STATISTICS
from serve_apps.oip.conformance.health import HEALTH, METADATA
from serve_apps.oip.conformance.infer import DATATYPES, INFER, TRANSPORT
from serve_apps.oip.conformance.rpc_checks import RPC, RPC_DATATYPES
from serve_apps.oip.conformance.rpc_errors import RPC_ERRORS
from serve_apps.oip.conformance.rpc_extensions import RPC_EXTENSIONS, RPC_STREAM
from serve_apps.oip.conformance.small_extensions import CLASSIFICATION, CONFIGURATION, SCHEDULE

CATALOGUE: tuple[Check, ...] = tuple(
    check
    for group in (
        HEALTH, METADATA, INFER, DATATYPES, BINARY, TRANSPORT, REPOSITORY, STATISTICS, GENERATE,
        CLASSIFICATION, SCHEDULE, CONFIGURATION,
        RPC, RPC_DATATYPES, RPC_STREAM, RPC_EXTENSIONS, ERRORS, RPC_ERRORS,
    )
    for check in group
)  # fmt: skip


def chosen(only: Sequence[str], skipped: Sequence[str] = (), *, is_robust: bool = False) -> list[Check]:
    """The checks that a pattern of `only` matches (`errors`, `required`, `*_404`), all where there is none, less those of `skipped`.

    Those of robustness come last, and only when asked for: by `is_robust`, or by a pattern.
    """
    found = [check for check in CATALOGUE if matches(check, only or ["*"]) and not matches(check, skipped)]
    usual = [check for check in found if check.level != ROBUSTNESS]
    return [*usual, *(check for check in found if check.level == ROBUSTNESS and (is_robust or only))]


def matches(check: Check, patterns: Sequence[str]) -> bool:
    """Whether a pattern is the check's id, its group or its level; `*` stands for anything."""
    names = (check.id, check.id.partition(".")[0], check.level)
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)
