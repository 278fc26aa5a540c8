"""Numbered steps from an empty database to the tables of today; run by every coordinator at its start."""
