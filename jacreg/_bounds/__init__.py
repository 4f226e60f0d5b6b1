"""Bounds that hold always: of linear maps, and of networks along their programs."""
