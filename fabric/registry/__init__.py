"""Models have versions: which there are, what each is made of, what they are called. The one owner of these facts."""
