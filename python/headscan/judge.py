"""Judges of explanations: a language model behind an OpenAI-compatible endpoint, or embedding similarity offline."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import whole_number
from headscan.common.terminal import one_line, plain, progress_bar
from headscan.edit.judgements import JudgedItem
from headscan.edit.matching import embed_queries, texts
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model

__all__ = ["EmbeddingJudge", "EndpointJudge"]

_log = logging.getLogger(__name__)
_PROMPT = (
    "A direction inside a vision model is described by weighted concepts:\n{concepts}\n\n"
    "How much is this direction about the following?\n{about}\n\n"
    "Answer with one digit: 1 (not at all), 2 (hardly), 3 (in part), 4 (mostly), 5 (entirely)."
)
_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True, kw_only=True)
class EndpointJudge:
    """Ask a language model for a score from 1 to 5 an explanation; call it with `JudgedItem`s.

    Every answer is appended to `cache` as it comes, so that an interrupted run goes on where it stopped.

    Attributes
    ----------
    about : str
        What the score is about, "the place or background of a picture" say.
    url : str
        Base address of an OpenAI-compatible service, such as ``http://localhost:8000/v1``.
    model : str
        The model's name there.
    key_variable : str, default "OPENAI_API_KEY"
        Environment variable of the key; no key is sent where it is not set.
    cache : path, optional
        File of answers, JSON lines, keyed by service, model and prompt.
    concurrency : int, default 8
        Requests at a time.
    retries : int, default 5
        Further attempts after a failed connection, a busy service or an answer without a score.
    wait_seconds : float, default 1
        Before the first of them; twice as long before each next one.
    timeout_seconds : float, default 60
        Of one request.
    """

    about: str
    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    cache: str | Path | None = None
    concurrency: int = 8
    retries: int = 5
    wait_seconds: float = 1.0
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise HeadscanError(f"the judge's address starts with http:// or https://, not {self.url!r}")
        whole_number(self.concurrency, "concurrency", least=1)
        whole_number(self.retries, "retries", least=0)

    def __call__(self, items: Sequence[JudgedItem]) -> list[float]:
        """Return one score an item.

        Raises
        ------
        HeadscanError
            If the service refuses, or gives no score after all attempts; answers so far are in the cache.
        """
        prompts = [self.prompt(item) for item in items]
        known = self._read_cache()
        asked = [prompt for prompt in dict.fromkeys(prompts) if self._key(prompt) not in known]
        lock = Lock()
        with progress_bar("judging explanations", total=len(asked), unit="answers") as advance:

            def judge(prompt: str) -> None:
                score = self._ask(prompt)
                with lock:
                    known[self._key(prompt)] = score
                    self._append(self._key(prompt), score)
                    advance(1)

            pool = ThreadPoolExecutor(self.concurrency)
            try:
                for _ in pool.map(judge, asked):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)
        return [known[self._key(prompt)] for prompt in prompts]

    def prompt(self, item: JudgedItem) -> str:
        """Return the question for one explanation."""
        code = zip(item.concepts, item.coefficients, strict=True)
        lines = "\n".join(f"- {plain(text)} ({value:.2f})" for text, value in code)
        return _PROMPT.format(concepts=lines or "- (none)", about=self.about)

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(json.dumps([self.url, self.model, prompt]).encode()).hexdigest()

    def _ask(self, prompt: str) -> float:
        problem = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.wait_seconds * 2 ** (attempt - 1))
            try:
                answer = self._post(prompt)
            except urllib.error.HTTPError as error:
                problem = f"status {error.code} {one_line(str(error.reason), longest=200)}"
                if error.code not in _RETRIED:
                    raise HeadscanError(f"the judge at {self.url} refuses: {problem}") from error
            except (OSError, ValueError, KeyError, IndexError, TypeError) as error:  # no connection, or odd JSON
                problem = f"{type(error).__name__}: {one_line(str(error), longest=200)}"
            else:
                digits = re.findall(r"(?<![\d.])[1-5](?![\d.]*\d)", answer)
                if len(set(digits)) == 1:
                    return float(digits[0])
                problem = f"the answer {one_line(answer, longest=80)!r} is not one digit from 1 to 5"
        raise HeadscanError(f"the judge at {self.url} gave no score in {self.retries + 1} attempts: {problem}")

    def _post(self, prompt: str) -> str:
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, data=json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=self.timeout_seconds) as response:
            answer = json.loads(response.read(_LONGEST_ANSWER))
        return str(answer["choices"][0]["message"]["content"])

    def _read_cache(self) -> dict[str, float]:
        if self.cache is None or not files.expanded(self.cache).is_file():
            return {}
        known: dict[str, float] = {}
        for line in files.expanded(self.cache).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                known[str(entry["key"])] = float(entry["score"])
            except (ValueError, KeyError, TypeError):  # the last line of an interrupted run
                _log.warning("a line of the judge's cache %s is damaged and is asked again", self.cache)
        return known

    def _append(self, key: str, score: float) -> None:
        if self.cache is None:
            return
        path = files.expanded(self.cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            torn = file.tell() > 0 and _last_byte(file) != b"\n"
            file.write((b"\n" if torn else b"") + json.dumps({"key": key, "score": score}).encode() + b"\n")


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return bytes(file.read(1))


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
        place_of = {text: place for place, text in enumerate(self.dictionary.texts)}
        return list(map(partial(_score, nearest, place_of), items))


def _score(nearest: np.ndarray[Any, Any], place_of: dict[str, int], item: JudgedItem) -> float:
    total = sum(item.coefficients)
    if total <= 0:
        return 1.0
    code = zip(item.concepts, item.coefficients, strict=True)
    mean = sum(value * nearest[place_of[text]] for text, value in code) / total
    return float(1 + 4 * min(max(mean, 0.0), 1.0))
