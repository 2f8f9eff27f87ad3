"""Triton 2.51 from the `nvidia-pytriton` wheel, on the CPU: its C++ front, and one instance of a Python backend.

The wheel's own launcher fails where the interpreter is not Debian's, so the binary is run directly and with a bare environment. Its
backend runs on the system's Python 3.11 and finds numpy beside it.
"""

from __future__ import annotations

import shutil

from peers.recipe import Command, Place

_CONFIG = """
name: "echo"
backend: "python"
max_batch_size: 0
input [{ name: "x" data_type: TYPE_FP32 dims: [16] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [16] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""
_MODEL = """
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = triton.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(triton.InferenceResponse(output_tensors=[triton.Tensor("y", x)]))
        return answers
"""


class Triton:
    name = "triton"
    requirements = ("nvidia-pytriton==0.7.0", "numpy<3")

    def command(self, place: Place) -> Command:
        home = place.site / "pytriton" / "tritonserver"
        # The binary looks for its backend's parts in its own folder, and writes there: it is given a copy of links.
        backends = place.workdir / "backends"
        shutil.copytree(home / "backends", backends)
        stub = home / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
        shutil.copy(stub, backends / "python" / stub.name)
        for package in place.site.glob("numpy*"):
            (backends / "python" / package.name).symlink_to(package)
        model = place.workdir / "models" / "echo"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(_CONFIG)
        (model / "1" / "model.py").write_text(_MODEL)
        argv = (
            str(home / "bin" / "tritonserver"),
            f"--model-repository={model.parent}",
            f"--backend-directory={backends}",
            f"--http-port={place.http_port}",
            "--http-address=127.0.0.1",
            f"--grpc-port={place.grpc_port}",
            "--grpc-address=127.0.0.1",
            f"--metrics-port={place.metrics_port}",
            "--log-info=false",
        )
        env = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(place.site / "nvidia_pytriton.libs")}
        return Command(argv, "/v2/models/echo/infer", env=env, is_bare=True, ready_path="/v2/health/ready", with_grpc=True)
