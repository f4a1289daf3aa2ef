"""From a list and a model to a dictionary: loaded where it is there, encoded where it is not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import whole_number
from headscan.dictionaries.build import build, discard, encode_into, key_of
from headscan.dictionaries.dictionary import Dictionary, is_whole, open_dictionary
from headscan.dictionaries.encoding import Window, encode_windows, tokens_sample
from headscan.dictionaries.folder import HEAD, MANIFEST, check_target, is_dictionary
from headscan.dictionaries.rows import centre
from headscan.dictionaries.vocabulary import PACKAGED, Vocabulary, read_vocabulary
from headscan.errors import HeadscanError, UnreadableError
from headscan.models.model import check_model

if TYPE_CHECKING:
    from headscan.models.model import Model

__all__ = ["Dictionary", "Template", "check_list", "check_source", "encode_dictionary", "load_dictionary"]

_log = logging.getLogger(__name__)
Template = str | Sequence[str] | None


def load_dictionary(
    source: str | Path | Iterable[str],
    *,
    model: Model | None = None,
    template: Template = None,
    column: str | None = None,
    strict: bool = False,
    batch_size: int = 256,
    at_least: int = 2,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    verify: bool = True,
    progress: bool | None = None,
) -> Dictionary:
    """Return a dictionary of concepts in the model's joint space, encoding it only if the cache has none.

    Parameters
    ----------
    source : str, path or iterable of str
        ``"demo"`` or ``"wordnet"`` (shipped with headscan), a text file (UTF-8, one concept a line, ``.gz``
        allowed), a ``.csv``, ``.tsv`` or ``.parquet`` table or a folder of its parts, ``.json``, ``.jsonl`` or
        ``.yaml``, ``"conceptnet:FILE"`` (ConceptNet's assertions), a folder written by `encode_dictionary` or
        `Dictionary.save`, or the texts themselves.
    model : Model, optional
        From `load_model`; its text tower does the encoding. A saved folder opens without one, by NumPy alone, for
        `comp` over its ``packed``; it is then not checked to be of any model.
    template : str or sequence of str, optional
        A text with ``{}`` where the concept goes, such as ``"a photo of a {}"``; of several, the unit embeddings
        are averaged. By default the concept stands alone.
    column : str, optional
        Column of a table or key of JSON's objects, by name or number from 1; may be left out where there is only one.
    strict : bool, default False
        Refuse a file with a row that is too long or holds line breaks, instead of mending or counting it out.
    batch_size : int, default 256
        Texts per forward pass.
    at_least : int, default 2
        Refuse a list with fewer concepts, before encoding it.
    cache : bool, default True
        Keep what is encoded, and look for it first, in `cache_dir`, under a key of the text tower's hash, the
        tokens of some of the texts, all texts and the templates. A damaged entry is encoded anew, an interrupted
        encoding resumed.
    cache_dir : str or path, optional
        By default ``$HEADSCAN_CACHE``, or ``headscan`` in the XDG cache folder.
    verify : bool, default True
        Check every file of a saved dictionary against its hash; False trusts the shards, but for their sizes.
    progress : bool, optional
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Dictionary

    Raises
    ------
    HeadscanError
        If there is no such dictionary, its text is unusable, a saved one belongs to another model, or a list is to
        be encoded and there is no model.
    """
    if model is not None:
        check_model(model)
    whole_number(at_least, "at_least")
    check_source(source)
    templates = _checked_templates(template)
    if isinstance(source, (str, Path)) and str(source) not in PACKAGED and is_dictionary(files.expanded(source)):
        if column is not None:
            raise HeadscanError(f"a column belongs to a list: {source} is a dictionary, whose concepts are known")
        given = None if template is None else templates
        return _load_saved(files.expanded(source), model=model, templates=given, at_least=at_least, verify=verify)
    if model is None:
        shown = source if isinstance(source, (str, Path)) else "a list of texts"
        raise HeadscanError(
            f"only the folder of a dictionary opens without a model, and {shown} is none: give a model"
        )
    vocabulary = read_vocabulary(source, column=column, strict=strict)
    job = _job(vocabulary, model, templates, batch_size=batch_size, at_least=at_least)
    if not cache:
        return _in_memory(job, progress=progress)
    folder = files.cache_folder() if cache_dir is None else files.expanded(cache_dir)
    entry = folder / "dictionaries" / job.key
    if entry.is_dir() and (existing := _found(entry, job)) is not None:
        return existing
    try:
        files.check_writable(entry)
    except HeadscanError as error:
        _log.warning("the dictionary is not kept, the cache cannot be written: %s", error)
        return _in_memory(job, progress=progress)
    return _on_disk(job, entry, progress=progress)


def encode_dictionary(
    source: str | Path | Iterable[str],
    folder: str | Path,
    *,
    model: Model,
    template: Template = None,
    column: str | None = None,
    strict: bool = False,
    batch_size: int = 256,
    progress: bool | None = None,
) -> Dictionary:
    """Encode a list of concepts into a folder, in memory for the texts and one shard, and map it.

    An interrupted encoding is resumed by the same call, whatever stopped it, and ends in the same bytes. A folder
    that holds just this dictionary already is only opened; one that holds another is replaced at the end.

    Parameters
    ----------
    source, model, template, column, strict, batch_size, progress
        As in `load_dictionary`; a saved folder is no list.
    folder : str or path
        Where the dictionary goes.

    Returns
    -------
    Dictionary

    Raises
    ------
    HeadscanError
        If the list or the model cannot be used, `folder` holds something else, or it cannot be written.
    """
    check_model(model)
    check_source(source)
    check_list(source)
    vocabulary = read_vocabulary(source, column=column, strict=strict)
    job = _job(vocabulary, model, _checked_templates(template), batch_size=batch_size, at_least=2)
    target = check_target(folder)
    existing = _found(target, job) if str(key_of(target / MANIFEST)).startswith(job.key) else None
    return existing or _on_disk(job, target, progress=progress)


@dataclass(frozen=True, eq=False)
class _Job:
    """What is to be encoded, and how."""

    vocabulary: Vocabulary
    model: Model
    templates: tuple[str, ...]
    batch_size: int

    def windows(self, *, progress: bool | None) -> Iterator[Window]:
        return encode_windows(
            self.model, self.vocabulary.texts, templates=self.templates, batch_size=self.batch_size, progress=progress
        )

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the result, but for the rounding that the batch size brings."""
        texts = self.vocabulary.texts
        tokens = tokens_sample(self.model, texts, templates=self.templates)
        header = json.dumps([HEAD, self.model.text_hash, tokens, self.templates])
        return hashlib.sha256("\n".join((header, *texts)).encode()).hexdigest()

    def record(self, kept: int, truncated: int) -> dict[str, Any]:
        """Return what is recorded of the encoding of `kept` concepts."""
        vocabulary = self.vocabulary
        if kept < 2:
            raise HeadscanError(
                "the concepts are all the same to the model's tokenizer: a dictionary needs at least two"
            )
        if truncated:
            _log.warning(
                "%d concepts of %s fill the model's context and may have been cut", truncated, vocabulary.source
            )
        return {
            "source": vocabulary.source,
            "templates": self.templates,
            "text_hash": self.model.text_hash,
            "blank": vocabulary.blank,
            "repeated": vocabulary.repeated,
            "same_tokens": len(vocabulary.texts) - kept,
            "truncated": truncated,
            "history": vocabulary.history,
        }


def _job(vocabulary: Vocabulary, model: Model, templates: tuple[str, ...], *, batch_size: int, at_least: int) -> _Job:
    whole_number(batch_size, "batch_size", least=1)
    _check_size(len(vocabulary.texts), vocabulary.source, at_least, noted=vocabulary.read_as)
    return _Job(vocabulary, model, templates, batch_size)


def _in_memory(job: _Job, *, progress: bool | None) -> Dictionary:
    texts: list[str] = []
    embeddings, truncated = [], 0
    for window in job.windows(progress=progress):
        texts += window.texts
        embeddings.append(window.encode())
        truncated += window.truncated
    record = job.record(len(texts), truncated)
    atoms = np.concatenate(embeddings)
    return Dictionary(texts=tuple(texts), mean=centre(atoms), atoms=atoms, **record)


def _on_disk(job: _Job, target: Path, *, progress: bool | None) -> Dictionary:
    make = encode_into(partial(job.windows, progress=progress), job.record, width=job.model.joint_dim)
    build(target, key=f"{job.key} {job.batch_size} prefixes", make=make, is_whole=is_whole, progress=progress)
    return open_dictionary(target, verify=False)


def _found(entry: Path, job: _Job) -> Dictionary | None:
    """Return the job's dictionary from where it was kept; None where it is damaged: its successor replaces it."""
    try:
        opened = open_dictionary(entry)
    except UnreadableError:
        raise
    except HeadscanError as error:
        _log.warning("a dictionary that was kept is damaged and is encoded anew: %s", error)
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written serves as it is
        discard(entry)
    vocabulary = job.vocabulary
    counts: dict[str, Any] = {
        "source": vocabulary.source,
        "blank": vocabulary.blank,
        "repeated": vocabulary.repeated,
        "history": vocabulary.history,
    }
    same = replace(opened, **counts)  # the same texts may come from another file
    vars(same).update(packed=opened.packed, hash=opened.hash)
    return same


def _load_saved(
    folder: Path, *, model: Model | None, templates: tuple[str, ...] | None, at_least: int, verify: bool
) -> Dictionary:
    dictionary = open_dictionary(folder, verify=verify)
    if model is not None and dictionary.text_hash != model.text_hash:
        raise HeadscanError(
            f"the dictionary in {folder} was encoded by another text tower ({dictionary.text_hash[:12]}) "
            f"than that of {model.name} ({model.text_hash[:12]}): encode its list again"
        )
    if templates not in (None, dictionary.templates):
        raise HeadscanError(f"the dictionary in {folder} was encoded with the template {dictionary.template!r}")
    _check_size(len(dictionary), str(folder), at_least)
    return dictionary


def check_source(source: object) -> None:
    """Raise unless `source` is a text, a path or texts.

    Raises
    ------
    HeadscanError
        If it is something else, or an empty text.
    """
    if not isinstance(source, (str, Path, Iterable)) or (isinstance(source, str) and not source):
        came = "''" if isinstance(source, str) else type(source).__qualname__
        raise HeadscanError(f"a dictionary is the name of a list, a file, a saved folder or texts, not {came}")


def check_list(source: object) -> None:
    """Raise if `source` is a dictionary already, where a list is expected.

    Raises
    ------
    HeadscanError
        If it is.
    """
    if isinstance(source, (str, Path)) and is_dictionary(files.expanded(source)):
        raise HeadscanError(
            f"{source} is a folder with a dictionary, not a list of concepts: headscan vocab changes dictionaries"
        )


def _checked_templates(template: Template) -> tuple[str, ...]:
    templates = ("{}",) if template is None else (template,) if isinstance(template, str) else template
    if not isinstance(templates, Iterable):
        templates = (templates,)
    checked = tuple(map(_checked_template, templates))
    if not checked or len(set(checked)) < len(checked):
        raise HeadscanError(f"templates must be at least one, and differ, got {list(checked)}")
    return checked


def _checked_template(template: object) -> str:
    if not isinstance(template, str) or any("\ud800" <= character <= "\udfff" for character in template):
        raise HeadscanError(f"a template must be a text, and one that can be written as UTF-8, not {template!a}")
    if template.count("{}") != 1:
        raise HeadscanError(
            f"a template needs {{}} once, where the concept goes, as in 'a photo of a {{}}'; got {template!r}"
        )
    return template


def _check_size(concepts: int, source: str, at_least: int, *, noted: str = "") -> None:
    if concepts < max(at_least, 2):
        reason = f"{at_least} are needed" if at_least > 2 else "centring leaves nothing of a single one"
        noted = f" (read {noted})" if noted else ""
        raise HeadscanError(f"the dictionary {source} has {concepts} concept{'s' * (concepts != 1)}: {reason}{noted}")
