"""Measurements: each a ratio taken in one run, against a peer or a floor."""
