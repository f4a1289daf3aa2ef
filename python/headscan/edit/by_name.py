"""Make an edit of a model by name, and save it or the edited model: what a command or a batch job calls once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common import files
from headscan.dictionaries.load import load_dictionary
from headscan.dictionaries.vocabulary import read_vocabulary
from headscan.edit.edit import Edit, load_edit
from headscan.edit.files import check_replaced
from headscan.edit.mean import ESTIMATE
from headscan.edit.save import check_target, edit_path
from headscan.errors import HeadscanError
from headscan.explanations.result import Scan, is_scan, load_scan
from headscan.models.load import load_model
from headscan.models.pictures import read_folder

if TYPE_CHECKING:
    import pandas as pd

    from headscan.models.model import Model

__all__ = ["WAYS", "EditRun", "edit_by_name"]

WAYS = ("suppress", "amplify", "classes", "judgements", "direction", "edit")
_DEFAULT_SCORES = {5: 0.0}


@dataclass(frozen=True, eq=False)
class EditRun:
    """An edit, what it scales and why, by how much heads change, and what was written: None where nothing was."""

    edit: Edit
    reasons: pd.DataFrame
    changes: pd.DataFrame
    edit_path: Path | None
    model_path: Path | None


def edit_by_name(
    model: str,
    *,
    way: str,
    of: str | Path | Sequence[Sequence[int]],
    pretrained: str | None = None,
    scan: Path | None = None,
    dictionary: str | Path | None = None,
    how: Mapping[str, Any] | None = None,
    compensate: bool = True,
    keep_mean: Path | None = None,
    out: Path | None = None,
    save_edit: Path | None = None,
    force: bool = False,
) -> EditRun:
    """Make an edit of a model by name; without `out` and `save_edit` nothing is written.

    Parameters
    ----------
    model, pretrained : str
        As in `load_model`.
    way : {"suppress", "amplify", "classes", "judgements", "direction", "edit"}
        Where the multipliers come from; `of` are the texts, the file of class names, of scores, or of the edit, or
        rows of layer, head and index.
    scan : path, optional
        Folder of the model's scan; not needed for the way "edit".
    dictionary : str or path, optional
        What the scan was made with, as in `load_dictionary`, where the cache has it no more.
    how : mapping, optional
        Options of `Edit.suppress`, `Edit.amplify`, `Edit.for_classes` or `Edit.from_judgements`, and `column` and
        `strict` of the list of class names; of directions the `strength`.
    compensate, keep_mean
        As `compensate` and `pictures` in `apply_edit`: a folder of pictures, or ``"estimate"``.
    out, save_edit : path, optional
        Where the edited model goes, and the edit as JSON.
    force : bool
        Replace another edit, or a model with another edit, that is there.

    Raises
    ------
    HeadscanError
        As `load_model`, `load_scan`, the maker of the edit, `apply_edit` and `save` do; if nothing would
        change, with the reason.
    """
    pictures = None
    if keep_mean is not None:
        pictures = ESTIMATE if str(keep_mean) == ESTIMATE else read_folder(keep_mean).paths
    if is_scan(Path(model)):
        raise HeadscanError(f"{model} is a scan: name the model first, and its scan with --scan {model}")
    saved = load_edit(str(of)) if way == "edit" else None
    scanned = _scan_of(scan) if saved is None else None
    loaded = load_model(model, pretrained=pretrained)
    if out is not None:
        check_target(loaded, out)
    edit = saved if saved is not None else _make(way, of, scanned, loaded, dictionary, dict(how or {}))
    if not len(edit):
        started = "nothing would change" if out is None else "there is nothing to save"
        raise HeadscanError(f"{started}: {_why_empty(edit)}")
    for path in (save_edit, None if out is None else edit_path(files.expanded(out))):
        if path is not None:
            check_replaced(path, edit.content(), force=force)
    changes = edit.changes(loaded)
    edited = None
    if out is not None:
        edited = edit.apply(loaded, in_place=True, compensate=compensate, pictures=pictures)
    saved_edit = None if save_edit is None else edit.save(save_edit, force=force)
    model_path = None if edited is None or out is None else edited.save(out, force=force)
    return EditRun(edit, _reasons(edit, scanned), changes, saved_edit, model_path)


def _scan_of(folder: Path | None) -> Scan:
    if folder is None:
        raise HeadscanError("give the model's saved scan with --scan DIR (headscan scan makes one)")
    return load_scan(folder)


def _make(
    way: str,
    of: str | Path | Sequence[Sequence[int]],
    scan: Scan | None,
    model: Model,
    dictionary: str | Path | None,
    how: dict[str, Any],
) -> Edit:
    if scan is None or way not in WAYS[:-1]:
        raise HeadscanError(f"a way is one of {', '.join(WAYS)}, and needs a scan but for edit; got {way!r}")
    if way == "direction":
        return Edit.from_table(_rows(of, how.get("strength", 0.0)), scan)
    if way == "judgements":
        return Edit.from_judgements(scan, str(of), how.pop("score_map", _DEFAULT_SCORES), **how)
    if dictionary is not None:
        templates = scan.info.template.split(" | ")
        how["dictionary"] = load_dictionary(dictionary, model=model, template=templates)
    if way == "classes":
        read = {name: how.pop(name) for name in ("column", "strict") if name in how}
        return Edit.for_classes(scan, model, read_vocabulary(str(of), **read).texts, **how)
    return (Edit.suppress if way == "suppress" else Edit.amplify)(scan, model, like=str(of), **how)


def _rows(of: Any, strength: float) -> pd.DataFrame:
    import pandas as pd

    rows: pd.DataFrame = pd.DataFrame(list(of), columns=["layer", "head", "index"]).assign(multiplier=strength)
    return rows


def _reasons(edit: Edit, scan: Scan | None) -> pd.DataFrame:
    """Return a row a direction: what it is explained by, and why it was chosen, where a text chose it."""
    import pandas as pd

    steps = edit.info.steps
    chosen = steps[0].get("chosen") if len(steps) == 1 else None
    return pd.DataFrame(chosen) if isinstance(chosen, list) and chosen else edit.table(scan)


def _why_empty(edit: Edit) -> str:
    """Say why an edit holds no direction."""
    step = edit.info.steps[0] if len(edit.info.steps) == 1 else {}
    return str(step.get("why_empty") or "every multiplier is 1")
