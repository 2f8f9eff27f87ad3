"""How many replicas a model has: what a replica measures of itself, and what is decided from it inside Serve's controller."""
