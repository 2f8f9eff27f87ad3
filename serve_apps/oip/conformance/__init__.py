"""The conformance kit: checks of any server, over the wire only, against the Open Inference Protocol and Triton's extensions of it.

It shares no message definition and no converter with the server of this package, so a mistake cannot hide on both sides. `python -m
serve_apps.oip.conformance URL` runs it.
"""
