"""What a scan was made with, at hand again: its own model and dictionary, or a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headscan.dictionaries.kept import kept_dictionary
from headscan.errors import HeadscanError
from headscan.explanations.result import check_scan
from headscan.models.model import check_model

if TYPE_CHECKING:
    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = ["check_origin", "scan_dictionary"]


def check_origin(scan: Scan, model: Model) -> None:
    """Raise unless a scan is of a model.

    Raises
    ------
    HeadscanError
        If its weights are others.
    """
    check_model(model)
    info = check_scan(scan).info
    if model.weights_hash != info.weights_hash:
        raise HeadscanError(
            f"the scan is of {info.model} with the weights {info.weights_hash[:12]}, but {model.name} has "
            f"{model.weights_hash[:12]}: scan this model"
        )


def scan_dictionary(scan: Scan, model: Model, dictionary: Dictionary | None = None) -> Dictionary:
    """Return the dictionary that a scan was made with: the one given, the scan's own, or from the cache.

    What is chosen by a scan's explanations depends on all of its dictionary, by the mean that centres it and by what
    chance says over it; so another one, or its part that the scan uses, will not do.

    Raises
    ------
    HeadscanError
        If another one is given, or it is nowhere to be had.
    """
    info = scan.info
    if dictionary is not None:
        if dictionary.hash != info.dictionary_hash:
            raise HeadscanError(f"the dictionary {dictionary.source} is not the one that the scan was made with")
        return dictionary
    if scan.dictionary is not None:
        return scan.dictionary
    kept = kept_dictionary(info.dictionary, info.dictionary_hash, model=model, templates=info.template.split(" | "))
    if kept is None:
        raise HeadscanError(
            f"the scan's dictionary {info.dictionary} ({info.dictionary_hash[:12]}) is not in the cache: give "
            "the list, file or folder that it was made of (dictionary=, --dictionary)"
        )
    return kept
