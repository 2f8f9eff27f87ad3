"""The Open Inference Protocol v2: one data plane, and what turns its nouns into JSON, binary tensors and protobuf, and back."""
