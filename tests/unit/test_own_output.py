"""What a command prints is on stdout, and nothing else is."""

from __future__ import annotations

import sys
import threading

import pytest

from fabric.cli.own_output import own_output


def test_other_threads_write_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with own_output():
        thread = threading.Thread(target=lambda: print("(autoscaler) Tip"))
        thread.start()
        thread.join()
        print("{}")
        sys.stdout.flush()
    print("after")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("{}\nafter\n", "(autoscaler) Tip\n")
