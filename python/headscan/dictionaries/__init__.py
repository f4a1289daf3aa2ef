"""Dictionaries: lists of concepts, read, encoded, saved as folders and opened again."""
