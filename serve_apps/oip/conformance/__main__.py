"""`python -m serve_apps.oip.conformance URL`: run the checks against the server there, print the findings, exit 0 or 1."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Sequence

from serve_apps.oip.conformance.catalogue import CATALOGUE, chosen
from serve_apps.oip.conformance.check import Check, Finding, judged
from serve_apps.oip.conformance.discovery import discover, set_aside
from serve_apps.oip.conformance.report import as_document, as_table, exit_status
from serve_apps.oip.conformance.rest import Rest
from serve_apps.oip.conformance.rpc import Rpc
from serve_apps.oip.conformance.target import Target

USAGE_ERROR, UNREACHABLE = 2, 4


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve_apps.oip.conformance", description=__doc__)
    parser.add_argument("url", nargs="?", help="base URL of the server's REST side, as http://127.0.0.1:8000")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="address of its gRPC side; without it those checks are skipped")
    parser.add_argument("--token", default="", help="sent as `Authorization: Bearer TOKEN`, over gRPC as metadata")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="a model to use; without it all of the repository index"
    )
    parser.add_argument("--identity", action="append", default=[], metavar="NAME",
                        help="a model whose outputs equal its inputs, wildcards allowed: values are judged too")  # fmt: skip
    parser.add_argument("--extension", action="append", default=[], metavar="NAME", help="judge it though the server does not advertise it")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="checks whose id, group or level matches")
    parser.add_argument("--skip", action="append", default=[], metavar="PATTERN", help="checks to leave out, matched in the same way")
    parser.add_argument("--robustness", action="store_true", help="also send what is known to end or to stall some servers")
    parser.add_argument("--size", type=int, default=2, help="the size given to free dimensions (default 2)")
    parser.add_argument("--strict", action="store_true", help="recommended checks count for the exit status")
    parser.add_argument("--verbose", "-v", action="store_true", help="show the checks that pass or are skipped, too")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--list", action="store_true", help="list the checks and end")
    return parser.parse_args(words)


def listed() -> str:
    return "\n".join(f"{check.id:40} {check.level:30} {check.says}  [{check.section}]" for check in CATALOGUE)


def run(checks: Sequence[Check], target: Target) -> list[Finding]:
    """A finding for each. Once the server is gone the rest is skipped: what ended it has failed, what follows says nothing more."""
    findings: list[Finding] = []
    is_gone = False
    for check in checks:
        findings.append(Finding(check, "skip", got="the server no longer answers") if is_gone else judged(check, target))
        if findings[-1].verdict == "fail" and not is_gone:
            is_gone = not is_up(target)
    return findings


def is_up(target: Target) -> bool:
    try:
        target.rest.get("/v2/health/live")
    except (OSError, http.client.HTTPException):
        return False
    return True


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    if options.list or not options.url:
        sys.stdout.write(
            f"{listed()}\n"
            if options.list
            else "error[no_url]: which server?\nhint: python -m serve_apps.oip.conformance http://127.0.0.1:8000\n"
        )
        return 0 if options.list else USAGE_ERROR
    checks = chosen(options.only, options.skip, is_robust=options.robustness)
    if not checks:
        sys.stderr.write(f"error[no_checks]: no check matches {', '.join(options.only)}\nhint: --list shows their ids\n")
        return USAGE_ERROR
    url = options.url if "://" in options.url else f"http://{options.url}"
    rpc = Rpc(options.grpc, options.token) if options.grpc else None
    target = Target(Rest(url, options.token), rpc, options.size, tuple(options.extension))
    try:
        discover(target, names=options.model, identities=options.identity)
        set_aside(target)
        findings = run(checks, target)
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"error[unreachable]: nothing answers at {url}: {type(error).__name__}: {error}\n")
        return UNREACHABLE
    finally:
        target.close()
    if options.json:
        sys.stdout.write(f"{json.dumps(as_document(target, findings, is_strict=options.strict))}\n")
    else:
        sys.stdout.write(f"{as_table(target, findings, is_verbose=options.verbose)}\n")
    return exit_status(findings, is_strict=options.strict)


if __name__ == "__main__":
    sys.exit(main())
