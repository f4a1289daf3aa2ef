"""Edits of concepts in the weights: a table of multipliers, made from explanations, applied, saved."""

from __future__ import annotations

from headscan.edit.cut import Cut, CutModel, ReadDirection, load_cut
from headscan.edit.direction import Direction
from headscan.edit.edit import Edit, load_edit
from headscan.edit.edited import EditedModel, apply_edit
from headscan.edit.info import EditInfo

__all__ = [
    "Cut",
    "CutModel",
    "Direction",
    "Edit",
    "EditInfo",
    "EditedModel",
    "ReadDirection",
    "apply_edit",
    "load_cut",
    "load_edit",
]
