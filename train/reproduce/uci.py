"""The UCI tables that several papers take, as files of the reader's own."""

from __future__ import annotations

from train.reproduce._settings import Settings

# Columns after the preparation of DKEF (correlated ones dropped).
FEATURES = {"red-wine": 11, "white-wine": 11, "parkinsons": 15}
FILES = {
    "red-wine": "winequality-red.csv of the UCI repository, or its folder",
    "white-wine": "winequality-white.csv of the UCI repository, or its folder",
    "parkinsons": "parkinsons_updrs.data of the UCI repository, or its folder",
}


def left_out(settings: Settings) -> list[str]:
    """Return the sentence on the tables that were not given, if any."""
    missing = [name for name in FILES if name not in settings.data]
    return (
        [f"The tables {', '.join(missing)}: give their files with --data NAME=PATH."]
        if missing
        else []
    )
