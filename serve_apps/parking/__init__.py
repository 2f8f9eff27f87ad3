"""Start from zero: warm processes that know no model, wait parked, and adopt one when its first request arrives."""
