"""The node's gateway: gRPC, the OpenAI dialect and the routes of the server as a whole, in front of the replicas' own servers."""
