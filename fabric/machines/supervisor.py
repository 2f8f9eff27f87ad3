"""Who keeps the watchdog alive: systemd where it runs, otherwise the watchdog stands alone, apart from whoever started it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from fabric.errors import RuntimeFault
from fabric.machines.node_files import NodeFiles

UNIT = "tierfabric-node.service"
_COMMAND = (sys.executable, "-m", "fabric.machines.watchdog")


def start(files: NodeFiles) -> None:
    """Start the watchdog, and have it started again when it ends or the machine reboots. Raises: RuntimeFault (`systemd_failed`)."""
    if has_systemd():
        directory = _unit_directory()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / UNIT).write_text(unit(), encoding="utf-8")
        if os.getuid():
            _systemctl_or_fail("loginctl", "enable-linger")  # a user's services live on when nobody is logged in
        _systemctl_or_fail(*_systemctl(), "daemon-reload")
        _systemctl_or_fail(*_systemctl(), "enable", UNIT)
        _systemctl_or_fail(*_systemctl(), "restart", UNIT)
        return
    with files.watchdog_log.open("ab") as log:
        subprocess.Popen(
            _COMMAND,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=Path.home(),
        )


def stop(files: NodeFiles) -> None:
    """Tell the watchdog to end its node, and nobody to start it again."""
    if has_systemd() and (_unit_directory() / UNIT).exists():
        subprocess.run([*_systemctl(), "disable", "--now", UNIT], capture_output=True, check=False)
    if (pid := files.watchdog_pid()) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def has_systemd() -> bool:
    """As sd_booted(3) tells it."""
    return Path("/run/systemd/system").is_dir()


def unit() -> str:
    """Pure but for this machine's Python: the unit of a system, or of a user who is not root."""
    return f"""[Unit]
Description=tierfabric node (Ray under a watchdog)
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={shlex.join(_COMMAND)}
Restart=always
RestartSec=1
KillMode=mixed
TimeoutStopSec=30
LimitNOFILE=65536
Delegate=yes

[Install]
WantedBy={"default.target" if os.getuid() else "multi-user.target"}
"""


def _unit_directory() -> Path:
    return Path("~/.config/systemd/user").expanduser() if os.getuid() else Path("/etc/systemd/system")


def _systemctl() -> list[str]:
    return ["systemctl", "--user"] if os.getuid() else ["systemctl"]


def _systemctl_or_fail(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeFault(f"{shlex.join(command)}: {done.stderr.strip()}", code="systemd_failed", hint="journalctl -xe shows more there")
