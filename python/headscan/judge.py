"""Judges of explanations: a language model behind an OpenAI-compatible endpoint, or embedding similarity offline."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headscan.common import files
from headscan.common.chat import ChatService
from headscan.common.checks import whole_number
from headscan.common.terminal import one_line, progress_bar
from headscan.edit.judgements import JudgedItem
from headscan.edit.matching import embed_queries, texts
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model

__all__ = ["MULTIPLIERS", "PROMPTS", "EmbeddingJudge", "EndpointJudge", "Judgement"]

_log = logging.getLogger(__name__)
PROMPTS = ("about", "theme", "spurious", "unsafe")
MULTIPLIERS: Mapping[str, Mapping[int, float]] = {  # the published ones, for Edit.from_judgements
    "spurious": {3: 0.0, 4: 0.0, 5: 0.0},
    "unsafe": {3: -1.0, 4: 0.0, 5: 0.0},
}
_SCHEMA = {
    "type": "object",
    "properties": {"theme": {"type": "string"}, "score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
    "required": ["theme", "score"],
    "additionalProperties": False,
}


class Judgement(NamedTuple):
    """A score from 1 to 5, and the theme in words, empty where none was asked for."""

    score: float
    theme: str


@dataclass(frozen=True, kw_only=True)
class EndpointJudge:
    """Ask a language model for a score from 1 to 5 an explanation; call it with `JudgedItem`s.

    Works with any service that has OpenAI's chat completions, local ones (Ollama, vLLM) too. Every answer is appended
    to `cache` as it comes, so that an interrupted run goes on where it stopped, and a judged result can be repeated.

    Attributes
    ----------
    about : str
        What the score is about, "the place or background of a picture" say; for `prompt` "spurious" the task that
        the model is meant for; for "theme" and "unsafe" it may be left empty.
    url : str
        Base address, such as ``http://localhost:8000/v1``. It holds no key or password.
    model : str
        The model's name there.
    prompt : str or path, default "about"
        ``"about"``; ``"theme"``: what the concepts have in common, and how far one theme covers them
        (monosemanticity); ``"spurious"`` or ``"unsafe"``: whether the direction should go, for an edit (arXiv
        2603.24653 judges both); or a text file of your own, with ``{concepts}`` and, if wanted, ``{about}``.
    key_variable : str, default "OPENAI_API_KEY"
        Environment variable of the key; no key is sent where it is not set.
    cache : path, optional
        File of answers, JSON lines, keyed by service, model and question; altered lines are asked again.
    max_tokens : int, optional
        Limit of an answer; by default the service's.
    concurrency, retries, wait_seconds, timeout_seconds
        Requests at a time (8); further attempts after a failed connection, a busy service or an answer without a
        score (5); seconds before the second, twice as long before each further one, unless the service says (1);
        of one request as a whole (60).
    """

    about: str
    url: str
    model: str
    prompt: str | Path = "about"
    key_variable: str = "OPENAI_API_KEY"
    cache: str | Path | None = None
    max_tokens: int | None = None
    concurrency: int = 8
    retries: int = 5
    wait_seconds: float = 1.0
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        whole_number(self.concurrency, "concurrency", least=1)
        whole_number(self.retries, "retries", least=0)
        for name in ("wait_seconds", "timeout_seconds"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise HeadscanError(f"{name} must be a positive number of seconds, not {getattr(self, name)!r}")
        self._service()
        if "{concepts}" not in self._template():
            raise HeadscanError(f"the prompt {self.prompt} has no {{concepts}} to put the concepts at")

    def __call__(self, items: Sequence[JudgedItem]) -> list[float]:
        """Return one score an item; see `judge`."""
        return [judgement.score for judgement in self.judge(items)]

    def judge(self, items: Sequence[JudgedItem]) -> list[Judgement]:
        """Return one judgement an item.

        Raises
        ------
        HeadscanError
            If the service refuses, or gives no score after all attempts; answers so far are in the cache.
        """
        template = self._template()
        questions = [self._question(template, item) for item in items]
        known = self._read_cache()
        asked = [question for question in dict.fromkeys(questions) if self._key(question) not in known]
        with progress_bar("judging explanations", total=len(asked), unit="answers") as advance:

            def got(question: str, judgement: Judgement) -> None:
                known[self._key(question)] = judgement
                self._append(self._key(question), judgement)
                advance(1)

            if asked:
                self._service().ask(asked, _judgement, got)
        return [known[self._key(question)] for question in questions]

    def _service(self) -> ChatService:
        schema = {"name": "judgement", "strict": True, "schema": _SCHEMA}
        fields: dict[str, Any] = {"temperature": 0, "response_format": {"type": "json_schema", "json_schema": schema}}
        if self.max_tokens is not None:
            fields["max_completion_tokens"] = whole_number(self.max_tokens, "max_tokens", least=1)
        return ChatService(
            url=self.url, model=self.model, key_variable=self.key_variable, fields=fields,
            concurrency=self.concurrency, retries=self.retries, wait_seconds=self.wait_seconds,
            timeout_seconds=self.timeout_seconds,
        )  # fmt: skip

    def _template(self) -> str:
        named = self.prompt in PROMPTS
        path = files.packaged_folder("prompts", f"{self.prompt}.txt") if named else files.expanded(self.prompt)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HeadscanError(f"prompt is one of {', '.join(PROMPTS)} or a text file; {path}: {error}") from error

    def _question(self, template: str, item: JudgedItem) -> str:
        code = zip(item.concepts, item.coefficients, strict=True)
        lines = "\n".join(f"- {json.dumps(text, ensure_ascii=False)} ({value:.2f})" for text, value in code)
        parts = re.split(r"(\{concepts\}|\{about\})", template)  # at once: a concept may hold such a mark itself
        values = {"{concepts}": lines or "- (none)", "{about}": self.about}
        return "".join(values.get(part, part) for part in parts)

    def _key(self, question: str) -> str:
        return hashlib.sha256(json.dumps([self.url, self.model, question]).encode()).hexdigest()

    def _read_cache(self) -> dict[str, Judgement]:
        if self.cache is None or not files.expanded(self.cache).is_file():
            return {}
        known: dict[str, Judgement] = {}
        damaged = 0
        for line in files.expanded(self.cache).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                judgement = Judgement(float(entry["score"]), str(entry["theme"]))
                if entry["check"] != _check(str(entry["key"]), judgement):
                    raise ValueError
                known[entry["key"]] = judgement
            except (
                ValueError,
                KeyError,
                TypeError,
                OverflowError,
                RecursionError,
            ):  # torn by a kill, or altered
                damaged += bool(line.strip())
        if damaged:
            _log.warning("%d lines of the judge's cache %s are damaged and are asked again", damaged, self.cache)
        return known

    def _append(self, key: str, judgement: Judgement) -> None:
        if self.cache is None:
            return
        path = files.expanded(self.cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        line = {"key": key, **judgement._asdict(), "check": _check(key, judgement)}
        with path.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            torn = file.tell() > 0 and _last_byte(file) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")


def _check(key: str, judgement: Judgement) -> str:
    return hashlib.sha256(json.dumps([key, *judgement]).encode()).hexdigest()[:16]


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return bytes(file.read(1))


def _judgement(answer: str) -> Judgement:
    """Read a judgement from an answer: its JSON object, or else the one digit that it holds."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        entry = json.loads(answer[start : end + 1]) if 0 <= start < end else {}
        score = float(str(entry.get("score")))
        if score in {1.0, 2.0, 3.0, 4.0, 5.0}:
            return Judgement(score, one_line(str(entry.get("theme") or ""), longest=200))
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    digits = set(re.findall(r"(?<![\d.])[1-5](?![\d.]*\d)", answer))
    if len(digits) == 1:
        return Judgement(float(digits.pop()), "")
    raise ValueError(f"the answer {one_line(answer, longest=80)!r} holds no score from 1 to 5")


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingJudge:
    """Score explanations offline: 1 plus 4 times the similarity to a text, weighted by coefficients.

    Attributes
    ----------
    model : Model
        Its text tower embeds the texts.
    dictionary : Dictionary
        The one that the scan was made with.
    about : str or sequence of str
        Texts; the nearest one counts for each concept.
    """

    model: Model
    dictionary: Dictionary
    about: str | Sequence[str]

    def __call__(self, items: Sequence[JudgedItem]) -> list[float]:
        """Return one score an item, from 1 to 5."""
        wanted = embed_queries(self.model, self.dictionary, texts(self.about, "about"))
        nearest = (self.dictionary.atoms.astype(np.float64) @ wanted.T).max(axis=1)
        place_of = {text: row for row, text in enumerate(self.dictionary.texts)}
        return list(map(partial(_score, nearest, place_of), items))


def _score(nearest: np.ndarray[Any, Any], place_of: dict[str, int], item: JudgedItem) -> float:
    total = sum(item.coefficients)
    if total <= 0:
        return 1.0
    code = zip(item.concepts, item.coefficients, strict=True)
    mean = sum(value * nearest[place_of[text]] for text, value in code) / total
    return float(1 + 4 * min(max(mean, 0.0), 1.0))
