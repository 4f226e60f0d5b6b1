"""Docstring extension of the site: `Example:` is the section that griffe calls `Examples:`."""

from __future__ import annotations

from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Renders the doctests of our docstrings as code."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
