"""The fabric on virtual time: the same cores over a trace."""
