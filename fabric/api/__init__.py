"""The job plane's HTTP/JSON API: the one door to it, for the command line, the Python client and whoever else."""
