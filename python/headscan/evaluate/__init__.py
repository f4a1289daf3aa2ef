"""Measures on labelled pictures: do explanations say what drives a model, and what do edits change."""
