"""What OpenSSH says is told by its cause, with the cure. The texts are OpenSSH's own (9.x)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from fabric.machines.ssh import Outcome, Remote, SshAccess, SshError, ssh_error

ACCESS = SshAccess("ann", private_key="~/.ssh/lab", port=2222, known_hosts="~/.tierfabric/clusters/lab/known_hosts")
HOST = "10.0.0.2"

CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for 10.0.0.2 has changed and you have requested strict checking.
Host key verification failed.
"""
OPEN_KEY = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Permissions 0644 for '/home/ann/.ssh/lab' are too open.
It is required that your private key files are NOT accessible by others.
This private key will be ignored.
Load key "/home/ann/.ssh/lab": bad permissions
ann@10.0.0.2: Permission denied (publickey).
"""
NO_KEY = """Warning: Identity file /home/ann/.ssh/lab not accessible: No such file or directory.
ann@10.0.0.2: Permission denied (publickey,password).
"""
REFUSED = "ann@10.0.0.2: Permission denied (publickey,gssapi-keyex,gssapi-with-mic)."
PUBLIC_HALF = 'Load key "/home/ann/.ssh/lab.pub": error in libcrypto\r\n' + REFUSED
OLD_PUBLIC_HALF = 'Load key "/home/ann/.ssh/lab.pub": invalid format\r\n' + REFUSED


@pytest.fixture(autouse=True)
def own_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("said", "code", "in_hint"),
    [
        (CHANGED, "host_key_changed", "ssh-keygen -R '[10.0.0.2]:2222' -f ~/.tierfabric/clusters/lab/known_hosts"),
        (OPEN_KEY, "ssh_key_open", "chmod 600 ~/.ssh/lab"),
        (NO_KEY, "ssh_key_missing", "auth.ssh_private_key"),
        (PUBLIC_HALF, "ssh_key_invalid", "not the .pub"),
        (OLD_PUBLIC_HALF, "ssh_key_invalid", "not the .pub"),
        (REFUSED, "ssh_refused", "ssh-copy-id -i ~/.ssh/lab ann@10.0.0.2"),
        ("Host key verification failed.", "host_key_unknown", "ssh-keygen -R '[10.0.0.2]:2222' -f "),
        ("ssh: Could not resolve hostname hott: Name or service not known", "host_unknown", "mend DNS"),
        ("ssh: Could not resolve hostname hott: Temporary failure in name resolution", "host_unknown", "mend DNS"),
        ("ssh: connect to host 10.0.0.2 port 2222: Connection refused", "no_ssh", "provider.ssh_port"),
        ("ssh: connect to host 10.0.0.2 port 2222: Connection timed out", "unreachable", "firewall"),
        ("Connection timed out during banner exchange\nConnection to 10.0.0.2 port 2222 timed out", "unreachable", "firewall"),
        ("ssh: connect to host 10.0.0.2 port 2222: No route to host", "unreachable", "firewall"),
        ("ssh: connect to host 10.0.0.2 port 2222: Network is unreachable", "unreachable", "firewall"),
        ("kex_exchange_identification: read: Connection reset by peer", "ssh_closed", "log of sshd"),
        ("kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.2 port 2222", "ssh_closed", "sshd"),
        ("Connection to 10.0.0.2 closed by remote host.", "ssh_lost", "run the same command again"),
        ("client_loop: send disconnect: Broken pipe", "ssh_lost", "run the same command again"),
        ("Timeout, server 10.0.0.2 not responding.", "ssh_lost", "run the same command again"),
        ("Bad owner or permissions on /home/ann/.ssh/config", "ssh_failed", "ssh -v ann@10.0.0.2"),
        ("", "ssh_lost", "run the same command again"),
        (" \n", "ssh_lost", "run the same command again"),
    ],
)
def test_every_way_in_which_ssh_fails_has_a_code_and_a_cure(said: str, code: str, in_hint: str) -> None:
    error = ssh_error(HOST, ACCESS, said)
    assert isinstance(error, SshError) and error.code == code
    assert error.message.startswith("10.0.0.2: ") and error.hint is not None and in_hint in error.hint
    assert "{" not in error.message + error.hint


def test_a_message_names_the_port_the_user_or_the_key_that_it_is_about() -> None:
    assert "port 2222" in ssh_error(HOST, ACCESS, "connect: Connection refused").message
    assert "user ann" in ssh_error(HOST, ACCESS, REFUSED).message
    assert "~/.ssh/lab" in ssh_error(HOST, ACCESS, NO_KEY).message


def test_what_is_not_known_is_told_in_the_last_words_of_ssh() -> None:
    error = ssh_error(HOST, ACCESS, "debug\nReceived disconnect from 10.0.0.2: Too many authentication failures\n\n")
    assert error.code == "ssh_failed" and "Too many authentication failures" in error.message


def test_the_command_line_never_asks_anybody_and_keeps_the_clusters_own_known_hosts(tmp_path: Path) -> None:
    words = Remote(HOST, ACCESS).argv()
    assert words[0] == "ssh" and words[-1] == "ann@10.0.0.2"
    assert {"BatchMode=yes", "StrictHostKeyChecking=accept-new", "Port=2222", "IdentitiesOnly=yes"} <= set(words)
    assert f"UserKnownHostsFile={tmp_path}/.tierfabric/clusters/lab/known_hosts" in words
    assert words[words.index("-i") + 1] == str(tmp_path / ".ssh/lab")
    assert not any("ProxyCommand" in word for word in words)


def test_another_key_or_another_way_never_rides_on_a_session_that_is_open() -> None:
    def session(access: SshAccess) -> str:
        return next(word for word in Remote(HOST, access).argv() if word.startswith("ControlPath="))

    others = (SshAccess("ann"), SshAccess("ann", private_key="~/.ssh/other"), SshAccess("ann", proxy_command="ssh -W %h:%p jump"))
    assert len({session(access) for access in (ACCESS, *others)}) == 4
    assert session(ACCESS) == session(ACCESS)
    assert "ProxyCommand=ssh -W %h:%p jump" in Remote(HOST, others[2]).argv()


def test_the_last_lines_of_an_outcome_skip_what_is_empty() -> None:
    outcome = Outcome(1, "one\n\ntwo\n", "three\n", 0.1)
    assert outcome.last_lines(2) == "two\nthree" and outcome.last_lines() == "one\ntwo\nthree"
