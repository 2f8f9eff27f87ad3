"""The way in: an HAProxy that sends inference straight to replicas, and the gateway for all else."""
