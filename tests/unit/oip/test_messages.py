"""The protobuf messages: what is committed is what the text says, and stands beside other registrations of the same names."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from serve_apps.oip import messages

PROTO = Path(messages.__file__).parent / "proto"


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_the_compiled_messages_are_those_of_the_text(tmp_path: Path) -> None:
    out = tmp_path / "inference.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--descriptor_set_out={out}", str(PROTO / "inference.proto")]
    subprocess.run(command, check=True)
    assert out.read_bytes() == (PROTO / "inference.binpb").read_bytes()


def test_every_message_of_the_text_is_compiled() -> None:
    text = (PROTO / "inference.proto").read_text(encoding="utf-8")
    outermost = {line.split()[1] for line in text.splitlines() if line.startswith("message ")}
    assert outermost == {name for name in messages.CLASSES if "." not in name}


def test_the_service_has_all_calls_of_triton() -> None:
    assert len(messages.SERVICE.methods) == 20


def test_protobufs_default_pool_stays_free_for_client_libraries() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
