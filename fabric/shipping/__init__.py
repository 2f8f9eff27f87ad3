"""The SQLite files of a head, shipped as they change to where artefacts are kept, and brought back where a new head has none.

What is in the store is always a whole database: a base copy, and behind it changes that each end with a commit.
"""
