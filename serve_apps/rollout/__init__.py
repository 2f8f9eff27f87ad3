"""Rollouts and experiments: how a new version earns its traffic. Pure: no clock, no I/O, no Ray; state goes to JSON and back."""
