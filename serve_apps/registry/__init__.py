"""Models with versions, from their user's side: what is read of a file, the client, and other registries."""
