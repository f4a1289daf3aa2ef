"""Circuits: which part of a tower writes what which later part reads, how far above chance, and in words."""
