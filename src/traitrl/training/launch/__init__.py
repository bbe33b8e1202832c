"""Launchers: many runs side by side."""
