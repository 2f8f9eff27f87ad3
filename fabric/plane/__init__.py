"""The job plane: carries the scheduler's core. Journal, runners, optimiser and API meet here."""
