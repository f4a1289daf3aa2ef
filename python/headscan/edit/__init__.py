"""Edits of concepts in the weights: a table of multipliers, made from explanations, applied, saved."""

from __future__ import annotations

from headscan.edit.direction import Direction
from headscan.edit.edit import Edit, EditedModel, EditInfo, apply_edit
from headscan.edit.files import load_edit

__all__ = ["Direction", "Edit", "EditInfo", "EditedModel", "apply_edit", "load_edit"]
