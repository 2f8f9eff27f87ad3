"""Machines that are reached by SSH: looked at, made ready, and kept running what they are to run."""
