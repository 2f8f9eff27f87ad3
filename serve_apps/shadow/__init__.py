"""Shadow copies: requests that another version answers as well, so that the answers can be compared."""
