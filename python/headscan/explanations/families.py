"""Families of explanations, each judged against its own chance: those of a part and side of a tower.

Chance for a family are directions as its weights would give them if they said nothing: random, with the scale that
each coordinate has in the family's directions, which a layer norm's gain, folded into what is read, makes uneven.
Neither that scale, taken over all the tower's layers, nor the correction for how many rows were looked at depends on
the other parts and sides of a scan.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.core import devices
from headscan.explanations.null import NullFidelity, random_explanations
from headscan.explanations.significance import LEVEL, local_fdr, p_values, q_values
from headscan.explanations.tail import fit_tail
from headscan.heads.parts import part_directions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.directions import Explanations
    from headscan.explanations.table import ScanInfo
    from headscan.models.joint import JointMap
    from headscan.models.model import Model

__all__ = ["coordinate_profile", "family_explanations", "family_profiles", "judge_families"]

_log = logging.getLogger(__name__)
_DIGITS = 4  # profiles are rounded, so that other instruction sets find the same cache entry


def judge_families(
    columns: dict[str, Any],
    model: Model,
    dictionary: Dictionary,
    *,
    joint: JointMap,
    info: ScanInfo,
    threads: int = 0,
    device: devices.Device = None,
) -> tuple[dict[str, NDArray[np.float64]], tuple[dict[str, Any], ...]]:
    """Return p-values, q-values and local false discovery rates of both fidelities, and what they rest on.

    Parameters
    ----------
    columns : dict
        Columns of the scan's table: part, side, fidelity and joint_fidelity.
    model, dictionary, joint, info, threads, device
        As the scan was made with; ``info.significance`` random directions a family.

    Returns
    -------
    dict of str to ndarray of float64, shape (rows,)
    tuple of dict
        One a family and fidelity: part, side, rows, how many have a q-value of at most 0.05, the least p-value that
        chance can give, and the tail's fit.
    """
    rows = len(columns["part"])
    prefixes = {"fidelity": "", "joint_fidelity": "joint_"}
    names = [prefix + name for prefix in prefixes.values() for name in ("p_value", "q_value", "local_fdr")]
    judged = {name: np.empty(rows) for name in names}
    facts: list[dict[str, Any]] = []
    for part, side in sorted(set(zip(columns["part"], columns["side"], strict=True))):
        mine = (columns["part"] == part) & (columns["side"] == side)
        null = family_null(model, dictionary, part, side, joint=joint, info=info, threads=threads, device=device)
        for name, prefix in prefixes.items():
            ranked = getattr(null, name)
            tail = fit_tail(ranked)
            p = p_values(columns[name][mine], ranked, tail=tail)
            q = q_values(p)
            for column, values in (("p_value", p), ("q_value", q), ("local_fdr", local_fdr(p))):
                judged[prefix + column][mine] = values
            fact = {"part": part, "side": side, "measure": name, "rows": len(p), "better": int((q <= LEVEL).sum())}
            facts.append(fact | ({"random_directions": len(ranked)} if tail is None else tail.facts()))
            if tail is None:
                _warn_if_coarse(fact, len(ranked))
    return judged, tuple(facts)


def family_null(
    model: Model,
    dictionary: Dictionary,
    part: str,
    side: str,
    *,
    joint: JointMap,
    info: ScanInfo,
    threads: int = 0,
    device: devices.Device = None,
) -> NullFidelity:
    """Return the fidelities of a family's random directions."""
    explained = family_explanations(
        model, dictionary, part, side, joint=joint, info=info, threads=threads, device=device
    )
    return NullFidelity(np.sort(explained.fidelity), np.sort(explained.joint_fidelity))


def family_explanations(
    model: Model,
    dictionary: Dictionary,
    part: str,
    side: str,
    *,
    joint: JointMap,
    info: ScanInfo,
    threads: int = 0,
    device: devices.Device = None,
) -> Explanations:
    """Return what a family's random directions are explained by, ``info.significance`` of them."""
    centred = info.folded and model.get_tower(info.tower).writes_centred
    profiles = family_profiles(model, part, side, tower=info.tower, fold=info.folded, threads=threads)
    return random_explanations(
        dictionary, joint=joint, profiles=profiles, k=info.k, coherence=info.coherence, method=info.method,
        penalty=info.penalty, count=info.significance, centred=centred, threads=threads, device=device,
    )  # fmt: skip


def family_profiles(
    model: Model, part: str, side: str, *, tower: str, fold: bool, threads: int = 0
) -> NDArray[np.float64]:
    """Return the root mean square of each coordinate over a family's directions, (layers, width), 1 on average."""
    profiles = []
    for layer in range(model.get_tower(tower).layers):
        decomposed = part_directions(
            model, part, layer=layer, tower=tower, sides=(side,) if part == "vo" else (), fold=fold, threads=threads
        )
        profiles.append(coordinate_profile(decomposed.vectors[decomposed.side == side]))
    return np.stack(profiles)


def coordinate_profile(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the root mean square of each coordinate of directions (n, width), 1 on average, (width,)."""
    squares = (vectors**2).mean(axis=0)
    return np.asarray(np.round(np.sqrt(squares / max(squares.mean(), 1e-300)), _DIGITS))


def _warn_if_coarse(fact: dict[str, Any], count: int) -> None:
    """Warn where a single row, however good, could not pass."""
    least, needed = 1 / (count + 1), LEVEL / fact["rows"]
    if least > needed:
        _log.warning(
            "%s %s, %s: with %d random directions no p-value is below %.2g, and one row of %d needs %.2g to be "
            "better than chance: compare with more, %d or more",
            fact["part"], fact["side"], fact["measure"], count, least, fact["rows"], needed, int(1 / needed),
        )  # fmt: skip
