"""Towers: where an architecture keeps the weights that headscan reads, a reader a family.

A `Tower` says, for one architecture, where each layer's value-output path, queries and keys and MLP are, and the
final map into the joint space. To support another architecture, write a function from a module to a `Tower` in a file
of its own and name it in `readers`.
"""

from headscan.models.towers.layer_weights import (
    AttentionWeights,
    FinalWeights,
    MLPInputWeights,
    MLPWeights,
    QueryKeyWeights,
)
from headscan.models.towers.readers import read_tower
from headscan.models.towers.tower import Tower
from headscan.models.towers.weights import Weights

__all__ = [
    "AttentionWeights",
    "FinalWeights",
    "MLPInputWeights",
    "MLPWeights",
    "QueryKeyWeights",
    "Tower",
    "Weights",
    "read_tower",
]
