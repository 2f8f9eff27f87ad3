"""Models have versions: which there are, what each is made of, and what they are called. One owner of these facts, in the journal's database."""
