"""Edits of concepts in the weights: a table of multipliers, made from explanations, applied, saved."""

from __future__ import annotations

from headscan.edit.apply import EditedModel, apply_edit
from headscan.edit.files import load_edit
from headscan.edit.table import Direction, Edit, EditInfo

__all__ = ["Direction", "Edit", "EditInfo", "EditedModel", "apply_edit", "load_edit"]
