"""Contamination: what was seen before, and what shows the same."""
