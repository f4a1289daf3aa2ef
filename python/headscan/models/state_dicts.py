"""State dicts as people save them: under other keys, with prefixes, beside an optimizer, with heads of their own.

Two steps. `state_dict_of` finds the tensors in whatever torch.load gave. `under_names` gives them the model's names,
and refuses what would be read wrongly: quantised weights, tensors of another architecture, weights that are missing.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from headscan.errors import HeadscanError
from headscan.models.tensor_files import TensorFiles

if TYPE_CHECKING:
    import torch

__all__ = ["lacks", "names_in", "under_names"]

_log = logging.getLogger(__name__)
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # of torch.compile and FSDP, anywhere
_SCALES = ("logit_scale", "logit_bias")  # no scan or embedding uses them
_LOGIT_SCALE = math.log(1 / 0.07)  # what CLIP starts training with
_BOOKKEEPING = (
    "attn_mask",
    "position_ids",
    "input_resolution",
    "context_length",
    "vocab_size",
    "num_batches_tracked",
)
_QUANTISED = (  # last parts of the names that quantised layouts keep beside a weight
    "SCB", "weight_format", "absmax", "quant_map", "nested_absmax", "nested_quant_map",  # bitsandbytes
    "qweight", "qzeros", "scales", "g_idx",  # GPTQ, AWQ
    "weight_scale", "weight_scale_inv", "weight_zero_point", "weight_packed", "weight_shape", "weight_g_idx",
    "input_scale", "scale_weight", "scale_input", "scaled_fp8",  # compressed-tensors, fp8
    "zero_point", "_packed_params", "_qdata",  # torch
)  # fmt: skip


def names_in(tensors: TensorFiles, wanted: Mapping[str, Any]) -> dict[str, str]:
    """Return where a file keeps the tensors that a model wants: from the model's names to the file's.

    Wrappers' names are passed over wherever they are, and whatever one prefix all names have in common, ``module.``,
    ``model.`` or ``clip.`` say. Names that the file has not are left out.

    Raises
    ------
    HeadscanError
        If the file holds the model more than once.
    """
    plain: dict[str, str] = {}
    for name in tensors.shapes:
        bare = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if bare in plain:
            raise HeadscanError(f"{tensors.source} holds {bare} twice, as {plain[bare]} and {name}: save one of them")
        plain[bare] = name
    ends: dict[str, list[str]] = {}
    for bare in plain:
        parts = bare.split(".")
        for start in range(len(parts)):
            ends.setdefault(".".join(parts[start:]), []).append(".".join([*parts[:start], ""]))
    counts = Counter(prefix for name in wanted for prefix in ends.get(name, ()))
    best = counts.most_common(2)
    if len(best) == 2 and best[0][1] == best[1][1] and best[0][1] > 1:
        both = " and ".join(repr(prefix) for prefix, _ in best)
        raise HeadscanError(f"{tensors.source} holds the model more than once, under {both}: save one of them")
    prefix = best[0][0] if best else ""
    return {name: plain[prefix + name] for name in wanted if prefix + name in plain}


def lacks(names: Collection[str], wanted: Mapping[str, Any]) -> list[str]:
    """Return what a model wants and a file's names have not; scales that no scan uses are not wanted."""
    return [name for name in wanted if name not in names and name not in _SCALES]


def under_names(tensors: TensorFiles, wanted: Mapping[str, torch.Tensor], what: str) -> TensorFiles:
    """Return a file's tensors under a model's names, one for each that it wants.

    Parameters
    ----------
    tensors : TensorFiles
    wanted : mapping
        The model's own state dict, for its names, shapes and dtypes.
    what : str
        The model, for messages.

    Raises
    ------
    HeadscanError
        If weights are missing, have other shapes, are quantised, or the file's are of a larger or another model.
    """
    _check_unquantised(tensors)
    names = names_in(tensors, wanted)
    missing = lacks(names, wanted)
    if missing:
        raise HeadscanError(_lacking(tensors, missing, what, len(wanted)))
    _check_others(tensors, names, what)
    for name, stored in names.items():
        shape, expected = tensors.shapes[stored], tuple(wanted[name].shape)
        if shape != expected and not (name in _SCALES and math.prod(shape) == 1):
            raise HeadscanError(
                f"{tensors.source} holds {stored} of shape {shape}, and {what} has {expected} there: it is of "
                "another architecture or size"
            )
        if wanted[name].is_floating_point() and not tensors.dtypes[stored].is_floating_point:
            raise HeadscanError(
                f"{tensors.source} holds {stored} as {tensors.dtypes[stored]}: weights are not whole numbers"
            )
    return tensors.renamed(names, {name: _initial(name, wanted[name]) for name in wanted if name not in names})


def _initial(name: str, wanted: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.full(tuple(wanted.shape), _LOGIT_SCALE if name == "logit_scale" else 0.0)


def _check_unquantised(tensors: TensorFiles) -> None:
    import torch

    plain = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for name, dtype in tensors.dtypes.items():
        parts = name.split(".")
        beside = next((part for part in parts[-2:] if part in _QUANTISED or part.startswith("quant_state")), None)
        narrow = parts[-1] in ("weight", "in_proj_weight", "bias") and dtype not in plain
        if beside or narrow or (dtype.is_floating_point and dtype not in plain):
            why = f"{name} beside them" if beside else f"{name} is {str(dtype).removeprefix('torch.')}"
            raise HeadscanError(
                f"the weights in {tensors.source} are quantised ({why}): only plain floating-point weights are read; "
                "load the model that was quantised, or save it dequantised, in float16 or float32"
            )


def _check_others(tensors: TensorFiles, names: Mapping[str, str], what: str) -> None:
    """Refuse tensors that the model lacks and that belong to its towers; say which others are passed over."""
    used = set(names.values())
    first = next(iter(names.items()))
    prefix = first[1].removesuffix(first[0]) if first[1].endswith(first[0]) else ""
    roots = {name.split(".")[0] for name in names}
    whole = tuple(name for name in names if "." not in name and name not in _SCALES)
    others = []
    for stored in tensors.shapes:
        own = stored.removeprefix(prefix)
        if stored in used or own.split(".")[-1] in (*_BOOKKEEPING, *_SCALES):
            continue
        own = ".".join(part for part in own.split(".") if part not in _WRAPPERS)
        inside = stored.startswith(prefix) and (
            own.split(".")[0] in roots or ("." not in own and own.startswith(whole))
        )
        if inside:
            raise HeadscanError(
                f"{tensors.source} holds {stored}, which {what} has no part for: it is of another architecture, and "
                "would be read wrongly"
            )
        others.append(stored)
    if others:
        _log.warning(
            "%s: %d tensors that %s has not are passed over, %s first", tensors.source, len(others), what, others[0]
        )


def _lacking(tensors: TensorFiles, missing: list[str], what: str, count: int) -> str:
    near = difflib.get_close_matches(missing[0], list(tensors.shapes)[:5000], n=1, cutoff=0.5)
    has = f"it has {near[0]}" if near else f"its names are like {', '.join(list(tensors.shapes)[:3]) or 'nothing'}"
    return (
        f"{tensors.source} is not of {what}: it has no tensor {missing[0]} ({len(missing)} of {count} are missing); "
        f"{has}. Name the architecture that it was trained as, or save model.state_dict() of the whole model"
    )
