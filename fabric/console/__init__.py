"""The console: one page over the fabric, served by an actor of its own that reads the journal and never schedules."""
