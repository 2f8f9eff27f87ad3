"""Lower bounds that no schedule can beat, one module per objective."""
