"""Where an edit comes from: of what model it is, and how its multipliers came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from headscan.common import files
from headscan.explanations.result import check_scan

if TYPE_CHECKING:
    from headscan.edit.direction import Direction
    from headscan.explanations.result import Scan

__all__ = ["Choice", "EditInfo"]


class Choice(NamedTuple):
    """Directions to scale, by how much, and a JSON object that says why."""

    multipliers: Mapping[Direction, float]
    step: Mapping[str, Any]


@dataclass(frozen=True)
class EditInfo:
    """What an edit is for and how it was made.

    Attributes
    ----------
    headscan, created : str
        Version of headscan, and when (ISO 8601, UTC).
    model, weights_hash : str
        Name and SHA-256 of the model whose directions are meant. Indices mean nothing for other weights.
    folded : bool
        Whether the directions are those of the folded and centred matrices, as in `vo_factors`.
    steps : tuple of dict
        How the multipliers came about, one JSON object a step.
    """

    headscan: str
    created: str
    model: str
    weights_hash: str
    folded: bool
    steps: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, scan: Scan, step: Mapping[str, Any]) -> EditInfo:
        """Return the provenance of an edit made from a scan in one step."""
        info = check_scan(scan).info
        return cls(files.package_version(), files.now(), info.model, info.weights_hash, info.folded, (step,))
