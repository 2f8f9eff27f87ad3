"""Clusters from their files: looked at, launched, ended."""
