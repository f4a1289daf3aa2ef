"""Directions explained in words: codes, significance, the table, and reading it."""
