"""Which models are served, by which versions, on which replicas: one owner of these facts, and what it tells the ingresses."""
