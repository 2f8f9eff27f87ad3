"""A test machine that boots systemd: units, a control group of its own and a disk that outlives a reboot.

None of this machine's own units is started: they would set up, and clean, what both share. Needs systemd's own program, not a running one.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tests.machines import SSHD, Machine, why_not

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = "/etc/systemd/system"
_UNIFIED, _NAMED = Path("/sys/fs/cgroup/cgroup.procs"), Path("/sys/fs/cgroup/systemd/cgroup.procs")
_TARGETS = ("sysinit", "basic", "multi-user", "shutdown")


def why_no_systemd() -> str | None:
    """Why there can be no such machine here; None where there can."""
    if (reason := why_not()) is not None:
        return reason
    if not SYSTEMD.exists():
        return "needs systemd (apt-get install systemd)"
    return None if _UNIFIED.exists() or _NAMED.exists() else "needs control groups"


class SystemdMachine(Machine):
    def power_off(self) -> None:
        super().power_off()
        until_s = time.monotonic() + 5
        while self._control_group.exists() and time.monotonic() < until_s:  # its last processes may still be ending
            with contextlib.suppress(OSError):
                for group in sorted(self._control_group.glob("**/"), key=lambda path: -len(path.parts)):
                    group.rmdir()
            time.sleep(0.05)

    @property
    def _control_group(self) -> Path:
        return (_UNIFIED if _UNIFIED.exists() else _NAMED).parent / self.name

    def _write_files(self) -> None:
        super()._write_files()
        (self.root / "hostname").write_text(f"{self.name}\n")  # systemd sets it anew
        units = self.root / "units"
        units.mkdir(exist_ok=True)
        for target in _TARGETS:
            (units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        (units / "machine.target").write_text("[Unit]\nAllowIsolate=yes\nWants=multi-user.target sshd.service\n")
        server = f"{SSHD} -D -e -f {self.root}/sshd_config"
        (units / "sshd.service").write_text(f"[Service]\nExecStart={server}\nKillMode=process\nRestart=always\n")

    def _boot_last(self) -> str:
        groups = "/sys/fs/cgroup" if _UNIFIED.exists() else "/sys/fs/cgroup/systemd"
        mount = "mount -t cgroup2 cgroup2" if _UNIFIED.exists() else "mount -t cgroup -o none,name=systemd cgroup"
        start = f"exec env -i container=lxc SYSTEMD_UNIT_PATH={UNITS} {SYSTEMD} --system --unit=machine.target --log-target=console"
        return (
            f"mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir -p {groups}; {mount} {groups}\n"
            f"mkdir -p {groups}/{self.name}; echo 0 > {groups}/{self.name}/cgroup.procs\n"
            "mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/sshd\n"
            f"mount --bind {self.root}/units {UNITS}; mount --bind {self.root}/hostname /etc/hostname\n"
            f"exec unshare --cgroup sh -c 'umount {groups}; {mount} {groups}; {start}'\n"
        )
