"""A recipe and data in, a run folder out."""
