"""What a web page in somebody's browser could do to the head, from the head's own loopback: DNS rebinding, and requests of another origin.

Ran on the head over SSH, by the Python there: no page gets the token, so each must be refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from fabric.doctor.check import Check
from fabric.machines.plan import Cluster
from fabric.machines.ssh import Remote

TRIES = (
    ("submitting a job without a token", "POST", "/api/jobs/", {"Content-Type": "application/json"}),
    ("DNS rebinding (Host: evil.example)", "POST", "/api/jobs/", {"Host": "evil.example", "Content-Type": "application/json"}),
    (
        "a page of another origin",
        "POST",
        "/api/jobs/",
        {"Origin": "http://evil.example", "User-Agent": "Mozilla/5.0", "Sec-Fetch-Mode": "cors", "Content-Type": "text/plain"},
    ),
    ("reading the cluster's state", "GET", "/api/v0/nodes", {"User-Agent": "Mozilla/5.0", "Origin": "http://evil.example"}),
)
_SCRIPT = """
import http.client, json, sys
out = []
for what, method, path, headers in json.load(sys.stdin)["tries"]:
    c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    try:
        body = json.dumps({"entrypoint": "true"}) if method == "POST" else None
        c.request(method, path, body=body, headers=headers)
        out.append(c.getresponse().status)
    except OSError:
        out.append(0)
    finally:
        c.close()
print(json.dumps(out))
"""


def try_browser(cluster: Cluster) -> Iterator[Check]:
    """A row for each attack. Raises: SshError."""
    script = _SCRIPT.replace("PORT", str(cluster.ports().dashboard)).replace('"', '\\"')
    command = f'{cluster.environment}/bin/python -c "{script}"'
    outcome = Remote(cluster.head, cluster.access).run(command, stdin=json.dumps({"tries": TRIES}).encode())
    where = f"{cluster.head} ({cluster.head_type})"
    try:
        statuses = json.loads(outcome.stdout)
    except ValueError:
        yield Check(where, "browser", "warn", f"could not be tried: {outcome.last_lines(1)}", "is the environment there?")
        return
    for (what, *_), status in zip(TRIES, statuses, strict=True):
        if status in (401, 403, 0):
            yield Check(where, "browser", "ok", f"{what}: {'refused' if status else 'nothing listens'}")
        else:
            yield Check(where, "browser", "fail", f"{what}: answered with {status}", "RAY_AUTH_MODE=token: `fabric up` sets it")
