"""Dictionaries: concepts encoded by a model's text tower, centred, kept in a cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan import _files
from headscan._encoding import Encoded, encode_concepts
from headscan.errors import HeadscanError
from headscan.explain import whole_number
from headscan.models import check_model
from headscan.pack import PackedAtoms, load_packed, pack
from headscan.vocabulary import PACKAGED, Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models import Model

__all__ = ["Dictionary", "load_dictionary"]

_log = logging.getLogger(__name__)
_KIND, _FORMAT_VERSION = "headscan-dictionary", 2
_MANIFEST, _DATA, _PACKED = "manifest.json", "dictionary.safetensors", "packed"


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Concepts as unit vectors of a model's joint space, centred on their mean; made by `load_dictionary`.

    Attributes
    ----------
    texts : tuple of str
        The concepts, without the template.
    atoms : ndarray of float32, shape (concepts, joint_dim)
        Text embeddings: normalised, less their mean, normalised.
    mean : ndarray of float64, shape (joint_dim,)
        Mean of the normalised embeddings.
    source : str
        Packaged name or file name of the list.
    template : str
        What each concept was put into, ``"{}"`` standing for it.
    text_hash : str
        `Model.text_hash` of the model that encoded it.
    blank, repeated, same_tokens : int
        Lines dropped: empty, the same text as an earlier one, or the same tokens (by case or spacing, say).
    truncated : int
        Concepts kept though they fill the model's context and may have been cut.
    """

    texts: tuple[str, ...]
    atoms: NDArray[np.float32]
    mean: NDArray[np.float64]
    source: str
    template: str
    text_hash: str
    blank: int = 0
    repeated: int = 0
    same_tokens: int = 0
    truncated: int = 0

    def __len__(self) -> int:
        """Return the number of concepts."""
        return len(self.texts)

    @cached_property
    def packed(self) -> PackedAtoms:
        """The atoms packed for `comp`: as saved with the dictionary, else packed now."""
        return pack(np.ascontiguousarray(self.atoms))

    @cached_property
    def hash(self) -> str:
        """SHA-256 over texts, atoms and mean."""
        digest = hashlib.sha256(_joined(self.texts))
        digest.update(np.ascontiguousarray(self.atoms, dtype="<f4").data)
        digest.update(np.ascontiguousarray(self.mean, dtype="<f8").data)
        return digest.hexdigest()

    def save(self, folder: str | Path) -> Path:
        """Write the dictionary as a folder of texts, atoms, their packed form and manifests; return its path.

        A dictionary already there is replaced; the folder is written aside and then renamed.

        Raises
        ------
        HeadscanError
            If `folder` holds something else, or cannot be written.
        """
        target = _files.expanded(folder).resolve()
        if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / _DATA).is_file())):
            raise HeadscanError(f"{target} exists and is not a saved dictionary: choose another folder")
        _files.check_writable(target.parent)
        self._write(target)
        return target

    def _write(self, target: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        arrays: dict[str, NDArray[Any]] = {
            "mean": np.ascontiguousarray(self.mean),
            "texts": np.frombuffer(_joined(self.texts), dtype=np.uint8),  # UTF-8, one a line
        }
        manifest = {
            "format": _KIND,
            "format_version": _FORMAT_VERSION,
            "headscan": _files.package_version(),
            "created": _files.now(),
            "concepts": len(self),
            "hash": self.hash,
            **{name: getattr(self, name) for name in _RECORDED},
        }
        try:
            with _files.folder_aside(target) as aside:
                save_file(arrays, aside / _DATA)
                (aside / _PACKED).mkdir()
                self.packed.write_to(aside / _PACKED)
                _files.write_manifest(aside / _MANIFEST, manifest)
        except (OSError, SafetensorError) as error:  # a full disk is either, depending on which file meets it
            raise HeadscanError(f"cannot write the dictionary to {target}: {error}") from error


_RECORDED = ("source", "template", "text_hash", "blank", "repeated", "same_tokens", "truncated")


def load_dictionary(
    source: str | Path | Sequence[str],
    *,
    model: Model,
    template: str | None = None,
    batch_size: int = 256,
    at_least: int = 2,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
) -> Dictionary:
    """Return a dictionary of concepts in the model's joint space, encoding it only if the cache has none.

    Parameters
    ----------
    source : str, path or sequence of str
        ``"demo"`` or ``"wordnet"`` (shipped with headscan), a text file (UTF-8, one concept a line, ``.gz``
        allowed), a folder written by `Dictionary.save`, or the texts themselves.
    model : Model
        From `load_model`; its text tower does the encoding.
    template : str, optional
        A text with ``{}`` where the concept goes, such as ``"a photo of a {}"``. By default the concept
        stands alone.
    batch_size : int, default 256
        Texts per forward pass.
    at_least : int, default 2
        Refuse a list with fewer concepts, before encoding it.
    cache : bool, default True
        Keep what is encoded, and look for it first, in `cache_dir`, under a key of the text tower's hash, the
        texts and the template. A damaged entry is encoded anew.
    cache_dir : str or path, optional
        By default ``$HEADSCAN_CACHE``, or ``headscan`` in the XDG cache folder.
    progress : bool, optional
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Dictionary

    Raises
    ------
    HeadscanError
        If there is no such dictionary, its text is unusable, or a saved one belongs to another model.
    """
    check_model(model)
    whole_number(at_least, "at_least")
    _check_source(source)
    given, template = template, _checked_template(template)
    if isinstance(source, (str, Path)) and str(source) not in PACKAGED and _files.expanded(source).is_dir():
        return _load_saved(_files.expanded(source), model=model, template=given, at_least=at_least)
    if whole_number(batch_size, "batch_size") < 1:
        raise HeadscanError(f"batch_size must be at least 1, not {batch_size}")
    vocabulary = read_vocabulary(source)
    _check_size(len(vocabulary.texts), vocabulary.source, at_least)
    entry = None
    if cache:
        folder = _files.cache_folder() if cache_dir is None else _files.expanded(cache_dir)
        entry = folder / "dictionaries" / _key(vocabulary, template=template, text_hash=model.text_hash)
        found = _from_cache(entry, vocabulary, model=model)
        if found is not None:
            return found
    encoded = encode_concepts(model, vocabulary.texts, template=template, batch_size=batch_size, progress=progress)
    dictionary = _assemble(vocabulary, encoded, template=template, text_hash=model.text_hash)
    if entry is not None:
        _to_cache(dictionary, entry)
    return dictionary


def _assemble(vocabulary: Vocabulary, encoded: Encoded, *, template: str, text_hash: str) -> Dictionary:
    dictionary = Dictionary(
        texts=encoded.texts,
        atoms=encoded.atoms,
        mean=encoded.mean,
        source=vocabulary.source,
        template=template,
        text_hash=text_hash,
        blank=vocabulary.blank,
        repeated=vocabulary.repeated,
        same_tokens=len(vocabulary.texts) - len(encoded.texts),
        truncated=encoded.truncated,
    )
    if dictionary.truncated:
        _log.warning(
            "%d concepts of %s fill the model's context and may have been cut",
            encoded.truncated,
            vocabulary.source,
        )
    return dictionary


def _check_source(source: object) -> None:
    if not isinstance(source, (str, Path, Iterable)) or (isinstance(source, str) and not source):
        came = "''" if isinstance(source, str) else type(source).__qualname__
        raise HeadscanError(f"a dictionary is the name of a list, a file, a saved folder or texts, not {came}")


def _checked_template(template: str | None) -> str:
    template = "{}" if template is None else template
    if not isinstance(template, str) or any("\ud800" <= character <= "\udfff" for character in template):
        raise HeadscanError(f"a template must be a text, and one that can be written as UTF-8, not {template!a}")
    if template.count("{}") != 1:
        raise HeadscanError(
            f"a template needs {{}} once, where the concept goes, as in 'a photo of a {{}}'; got {template!r}"
        )
    return template


def _check_size(concepts: int, source: str, at_least: int) -> None:
    if concepts < max(at_least, 2):
        reason = f"{at_least} are needed" if at_least > 2 else "centring leaves nothing of a single one"
        raise HeadscanError(f"the dictionary {source} has {concepts} concept{'s' * (concepts != 1)}: {reason}")


def _joined(texts: Sequence[str]) -> bytes:
    return "\n".join(texts).encode("utf-8")


def _key(vocabulary: Vocabulary, *, template: str, text_hash: str) -> str:
    header = json.dumps([_KIND, _FORMAT_VERSION, text_hash, template])
    return hashlib.sha256(header.encode() + b"\n" + _joined(vocabulary.texts)).hexdigest()


def _from_cache(entry: Path, vocabulary: Vocabulary, *, model: Model) -> Dictionary | None:
    if not entry.is_dir():
        return None
    try:
        found = _read(entry)
    except HeadscanError as error:
        _log.warning("a dictionary in the cache is damaged and is encoded anew: %s", error)
        return None
    counts: dict[str, Any] = {
        "source": vocabulary.source,
        "blank": vocabulary.blank,
        "repeated": vocabulary.repeated,
    }
    same = replace(found, **counts)  # the same texts may come from another file
    vars(same)["packed"] = found.packed
    return same


def _to_cache(dictionary: Dictionary, entry: Path) -> None:
    try:
        dictionary._write(entry)
    except HeadscanError as error:
        _log.warning("the dictionary is not kept, the cache cannot be written: %s", error)


def _load_saved(folder: Path, *, model: Model, template: str | None, at_least: int) -> Dictionary:
    dictionary = _read(folder)
    if dictionary.text_hash != model.text_hash:
        raise HeadscanError(
            f"the dictionary in {folder} was encoded by another text tower ({dictionary.text_hash[:12]}) "
            f"than that of {model.name} ({model.text_hash[:12]}): encode its list again"
        )
    if template is not None and template != dictionary.template:
        raise HeadscanError(f"the dictionary in {folder} was encoded with the template {dictionary.template!r}")
    _check_size(len(dictionary), str(folder), at_least)
    return dictionary


def _read(folder: Path) -> Dictionary:
    """Read a saved dictionary and check every part of it against its hash."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    manifest = _files.read_manifest(folder / _MANIFEST, kind=_KIND, format_version=_FORMAT_VERSION)
    types = {field.name: field.type for field in fields(Dictionary) if field.name in _RECORDED}
    _files.check_types(manifest, {**types, "hash": "str", "concepts": "int"}, where=folder / _MANIFEST)
    try:
        arrays: dict[str, Any] = load_file(folder / _DATA)
        texts = tuple(arrays["texts"].tobytes().decode("utf-8").split("\n"))
        recorded = {name: manifest[name] for name in _RECORDED}
        packed = load_packed(folder / _PACKED)
        dictionary = Dictionary(texts=texts, atoms=packed.atoms, mean=arrays["mean"], **recorded)
        vars(dictionary)["packed"] = packed
        sizes = {len(dictionary), len(dictionary.atoms), manifest["concepts"]}
        whole = dictionary.hash == manifest["hash"] and len(sizes) == 1
    except HeadscanError:
        raise
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise HeadscanError(f"{folder} is damaged: {type(error).__name__}: {error}") from error
    if not whole:
        raise HeadscanError(f"{folder} is damaged: its content does not match its hash")
    return dictionary
