"""Who used which model how much: a line per request that outlives the process which wrote it."""
