"""Dictionaries that the cache keeps, by the hash that a scan records of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headscan.common import files
from headscan.common.reading import read_json
from headscan.dictionaries.dictionary import Dictionary, open_dictionary
from headscan.dictionaries.folder import MANIFEST, is_dictionary
from headscan.dictionaries.load import load_dictionary
from headscan.dictionaries.vocabulary import PACKAGED
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from headscan.models.model import Model

__all__ = ["kept_dictionary"]


def kept_dictionary(source: str, content_hash: str, *, model: Model, templates: list[str]) -> Dictionary | None:
    """Return the dictionary of a hash: a packaged list by its name, any other from the cache; None where it is gone.

    Parameters
    ----------
    source : str
        `Dictionary.source`, by which a packaged list is known.
    content_hash : str
        `Dictionary.hash`.
    model : Model
        Encodes a packaged list that the cache does not hold.
    templates : list of str
        As it was encoded with.
    """
    if source in PACKAGED:
        packaged = load_dictionary(source, model=model, template=templates)
        if packaged.hash == content_hash:
            return packaged
    folder = files.cache_folder() / "dictionaries"
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            manifest = read_json(entry / MANIFEST) if is_dictionary(entry) else None
            if isinstance(manifest, dict) and manifest.get("hash") == content_hash:
                return open_dictionary(entry)
        except HeadscanError:  # a damaged entry is encoded anew by whoever loads it by its list
            continue
    return None
