"""Dictionaries made from dictionaries: concepts dropped, lists merged; no text is encoded again.

The unit embeddings come back from atoms and mean (`Dictionary.embeddings`); what is left of them is centred anew,
since another set of concepts has another mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headscan.common import writing
from headscan.dictionaries.dictionary import (
    Dictionary,
    filter_dictionary,
    made_of,
    open_dictionary,
    record_of,
)
from headscan.dictionaries.folder import check_target
from headscan.dictionaries.vocabulary import read_vocabulary
from headscan.errors import HeadscanError

__all__ = ["filter_folders", "merge_dictionaries"]


def merge_dictionaries(
    dictionaries: Sequence[Dictionary], *, folder: str | Path | None = None, threads: int = 0
) -> Dictionary:
    """Return one dictionary of the concepts of several, each text once, in the order of first appearance.

    Parameters
    ----------
    dictionaries : sequence of Dictionary
        Of the same text tower and templates.
    folder : str or path, optional
        Build the result there, in bounded memory, and map it; by default it is made in memory.
    threads : int, default 0
        Worker threads; 0 takes all that the process may use.

    Returns
    -------
    Dictionary
        Centred on its own mean; its counts of dropped lines are sums, and its history names what went in.

    Raises
    ------
    HeadscanError
        If there are none, or they were encoded by different text towers or with different templates.
    """
    if not dictionaries:
        raise HeadscanError("there are no dictionaries to merge")
    first = dictionaries[0]
    for other in dictionaries[1:]:
        if other.text_hash != first.text_hash:
            raise HeadscanError(f"{first.source} and {other.source} were encoded by different text towers")
        if other.templates != first.templates:
            raise HeadscanError(
                f"{first.source} and {other.source} have different templates: "
                f"{first.template!r} and {other.template!r}"
            )
    seen: set[str] = set()
    parts = []
    for one in dictionaries:
        rows = np.array([row for row, text in enumerate(one.texts) if text not in seen], dtype=np.int64)
        seen.update(one.texts)
        parts.append((one, rows))
    record = record_of(first, [line for one in dictionaries for line in one.history])
    for name in ("blank", "repeated", "same_tokens", "truncated"):
        record[name] = sum(getattr(one, name) for one in dictionaries)
    record["repeated"] += sum(len(one) - len(rows) for one, rows in parts)
    record["source"] = " + ".join(one.source for one in dictionaries)
    merged = " and ".join(f"{len(rows):,} of {one.source} ({one.hash[:12]})" for one, rows in parts)
    record["history"].append(f"merged {merged}")
    return made_of(parts, record, folder=folder, threads=threads)


def filter_folders(
    folders: Sequence[Path],
    out: Path,
    *,
    drop_list: str | None = None,
    column: str | None = None,
    strict: bool = False,
    **filters: Any,
) -> Dictionary:
    """Merge saved dictionaries where there are several, filter, and write the result; for the command line.

    Parameters
    ----------
    folders : sequence of Path
        Saved dictionaries.
    out : Path
        Folder of the result.
    drop_list : str, optional
        List of concepts to drop, as `headscan.load_dictionary` reads them.
    column, strict
        Of that list, likewise.
    **filters
        As in `Dictionary.filter`.

    Raises
    ------
    HeadscanError
        As `merge_dictionaries` and `Dictionary.filter` do, or if a single dictionary has nothing to be done to.
    """
    out = check_target(out)
    dictionaries = [open_dictionary(folder) for folder in folders]
    if drop_list is not None:
        filters["drop_texts"] = read_vocabulary(drop_list, column=column, strict=strict).texts
    elif column is not None or strict:
        raise HeadscanError(
            "a column (--column) and strict (--strict) are of the list to drop: give it (--drop-list)"
        )
    chosen = {name: value for name, value in filters.items() if value is not None and name != "at_least"}
    if len(folders) > 1 and not chosen:
        return merge_dictionaries(dictionaries, folder=out)
    if len(folders) == 1:
        return filter_dictionary(dictionaries[0], folder=out, **filters)
    with writing.scratch_folder(out) as aside:
        return filter_dictionary(merge_dictionaries(dictionaries, folder=aside / "merged"), folder=out, **filters)
