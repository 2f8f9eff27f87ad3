"""What is wrong with this machine or with the cluster, and what cures it: facts are gathered, then judged by pure checks."""
