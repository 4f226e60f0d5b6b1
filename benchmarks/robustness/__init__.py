"""What was tried to break a run, and what happened."""
