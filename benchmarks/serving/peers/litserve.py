"""LitServe 0.2, one worker and one API server, with its `fast_queue`, which its documentation names for high rates."""

from __future__ import annotations

from peers.recipe import Command, Place

_APP = """
import sys
import litserve

class Echo(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request

    def predict(self, x):
        return x

    def encode_response(self, output):
        return output

if __name__ == "__main__":
    server = litserve.LitServer(Echo(), accelerator="cpu", workers_per_device=1, fast_queue=FAST_QUEUE)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", generate_client_file=False)
"""


class LitServe:
    name = "litserve"
    requirements = ("litserve==0.2.19", "uvloop", "httptools", "orjson")

    def command(self, place: Place) -> Command:
        (place.workdir / "app.py").write_text(_APP.replace("FAST_QUEUE", "True"))
        argv = (str(place.python), "app.py", str(place.http_port))
        return Command(argv, "/predict", ready_path="/health")
