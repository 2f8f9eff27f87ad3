"""The findings as a table that fits the terminal, or as one JSON object; the summary per level and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fabric.fitted import fitted, printable
from serve_apps.oip.conformance.check import RECOMMENDED, Finding
from serve_apps.oip.conformance.target import Target

MARKS = {"pass": "✓", "fail": "✗", "skip": "-"}


def summary(findings: Sequence[Finding]) -> dict[str, dict[str, int]]:
    """Level -> how many passed, failed and were skipped; levels in the order of the checks."""
    levels: dict[str, dict[str, int]] = {}
    for finding in findings:
        levels.setdefault(finding.check.level, {"pass": 0, "fail": 0, "skip": 0})[finding.verdict] += 1
    return levels


def exit_status(findings: Sequence[Finding], *, is_strict: bool = False) -> int:
    """1 where a required check or one of an advertised extension fails, or, when strict, a recommended one."""
    return int(any(each.verdict == "fail" and (is_strict or each.check.level != RECOMMENDED) for each in findings))


def as_table(target: Target, findings: Sequence[Finding], *, is_verbose: bool, width: int | None = None) -> str:
    """Failures, their evidence, then a line per level. `is_verbose`: every check, and evidence for the recommended ones too."""
    parts = [about(target)]
    shown = [each for each in findings if is_verbose or each.verdict == "fail"]
    if shown:
        rows = [
            [MARKS[each.verdict], each.check.id, each.check.level, each.check.says if each.verdict != "skip" else each.got]
            for each in shown
        ]
        parts.append(fitted(["", "check", "level", "what it says"], rows, most={"": 1, "check": 34, "level": 28}, width=width))
    parts += [evidence(each) for each in findings if each.verdict == "fail" and (is_verbose or each.check.level != RECOMMENDED)]
    lines = [[level, *(str(counts[verdict]) for verdict in MARKS)] for level, counts in summary(findings).items()]
    parts.append(fitted(["level", "passed", "failed", "skipped"], lines, most={}, right=("passed", "failed", "skipped"), width=width))
    return "\n\n".join(parts)


def about(target: Target) -> str:
    aside = [f"  set aside: {name}: {model.refusal}" for name, model in target.models.items() if model.refusal]
    identities = [name for name, model in target.models.items() if model.is_identity]
    lines = [
        f"{target.rest.url}: {len(target.models)} models, {len(identities)} of them identities; "
        f"extensions: {', '.join(target.extensions) or 'none'}",
        *aside,
    ]
    return "\n".join(printable(line) for line in lines)


def evidence(finding: Finding) -> str:
    lines = [f"✗ {finding.check.id} ({finding.check.section})", f"  expected  {finding.expected}", f"  got       {finding.got}"]
    lines += [f"  {line}" for line in finding.exchange.splitlines()]
    return "\n".join(printable(line) for line in lines)


def as_document(target: Target, findings: Sequence[Finding], *, is_strict: bool = False) -> dict[str, Any]:
    """Stable keys: `url`, `extensions`, `models`, `checks`, `summary`, `conforms`."""
    return {
        "url": target.rest.url,
        "extensions": list(target.extensions),
        "models": [{"name": name, "is_identity": model.is_identity, "set_aside": model.refusal} for name, model in target.models.items()],
        "checks": [
            {
                "id": each.check.id, "level": each.check.level, "section": each.check.section, "says": each.check.says,
                "verdict": each.verdict, "expected": each.expected, "got": each.got, "exchange": each.exchange,
                "ms": round(each.took_s * 1e3, 3),
            }
            for each in findings
        ],
        "summary": summary(findings),
        "conforms": exit_status(findings, is_strict=is_strict) == 0,
    }  # fmt: skip
