"""A client of OpenAI-compatible chat services: many questions at a time, each with a deadline, none leaking the key.

Services differ in what they take. Optional fields (temperature, a response format, a limit of tokens) are sent, and
left out or renamed for good once a service refuses one by name. Redirects are not followed: the key goes to no other
host.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from headscan.common.terminal import one_line
from headscan.errors import HeadscanError

__all__ = ["ChatService"]

_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
_LARGEST_ANSWER = 1 << 20  # bytes
_LONGEST_WAIT = 120.0  # seconds that a service may ask to wait
_OTHER_NAMES = {"max_completion_tokens": "max_tokens"}


class _FailedError(Exception):
    """An attempt that failed, and may not fail again."""

    def __init__(self, problem: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, kw_only=True)
class ChatService:
    """Where to ask, and how often; `ask` puts the questions.

    Attributes
    ----------
    url, model, key_variable
        Base address, the model's name there, and the environment variable of the key.
    fields : mapping
        Optional fields of the request; what the service refuses by name is left out from then on.
    concurrency, retries : int
        Questions at a time, and further attempts of each.
    wait_seconds : float
        Before the second attempt, twice as long before each further one; a service's ``Retry-After`` counts instead.
    timeout_seconds : float
        Of one attempt as a whole, however slowly it drips.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    fields: dict[str, Any] = field(default_factory=dict)
    concurrency: int = 8
    retries: int = 5
    wait_seconds: float = 1.0
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            parts, usable = None, False
        if parts is not None and (parts.username is not None or parts.password is not None):
            raise HeadscanError(
                "the service's address holds a user name or password: leave it out, and put the key into the "
                f"environment variable {self.key_variable}"
            )
        if not usable:
            raise HeadscanError(f"the service's address starts with http:// or https:// and a host, not {self.url!r}")

    def ask(self, questions: Sequence[str], read: Callable[[str], Any], got: Callable[[str, Any], None]) -> None:
        """Ask every question, and hand over what `read` makes of each answer as it comes.

        Parameters
        ----------
        questions : sequence of str
        read : callable
            From an answer's text to a value; a ValueError means that the answer is no good, and is asked again.
        got : callable
            Called with a question and its value, one at a time, in the order of arrival.

        Raises
        ------
        HeadscanError
            If the service refuses, or gives no usable answer after all attempts; what came was handed over.
        """
        with ThreadPoolExecutor(1) as pool:  # a loop of its own, also where a notebook runs one
            cancelled = threading.Event()
            task = pool.submit(lambda: asyncio.run(self._all(questions, read, got, cancelled)))
            try:
                task.result()
            except BaseException:
                cancelled.set()
                raise

    async def _all(
        self,
        questions: Sequence[str],
        read: Callable[[str], Any],
        got: Callable[[str, Any], None],
        cancelled: threading.Event,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise HeadscanError("judges behind an address need httpx: pip install 'headscan[judge]'") from error
        headers = {"Accept-Encoding": "identity"}  # nothing to decompress, so sizes are what they seem
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        free, fields = asyncio.Semaphore(self.concurrency), dict(self.fields)
        async with httpx.AsyncClient(headers=headers, timeout=self.timeout_seconds, follow_redirects=False) as client:

            async def one(question: str) -> None:
                async with free:
                    if not cancelled.is_set():
                        got(question, await self._answer(client, question, read, fields))

            tasks = [asyncio.ensure_future(one(question)) for question in questions]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, client: Any, question: str, read: Callable[[str], Any], fields: dict[str, Any]) -> Any:
        import httpx

        problem, wait = "", 0.0
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(wait)
            wait = self.wait_seconds * 2**attempt
            try:
                answer = await asyncio.wait_for(self._post(client, question, fields), self.timeout_seconds)
                return read(answer)
            except HeadscanError:
                raise
            except _FailedError as error:
                problem, wait = str(error), wait if error.wait_seconds is None else error.wait_seconds
            except asyncio.TimeoutError:
                problem = f"no whole answer within {self.timeout_seconds:g} s"
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {self._harmless(str(error))}"
            except ValueError as error:
                problem = self._harmless(str(error))
        raise HeadscanError(f"{self.host} gave no usable answer in {self.retries + 1} attempts: {problem}")

    async def _post(self, client: Any, question: str, fields: dict[str, Any]) -> str:
        """Put a question once, or more often where an optional field is refused; return the answer's text."""
        while True:
            sent = dict(fields)
            body = {"model": self.model, "messages": [{"role": "user", "content": question}], **sent}
            address = f"{self.url.rstrip('/')}/chat/completions"
            async with client.stream("POST", address, json=body) as response:
                data = await self._body(response)
            if response.status_code == 200:
                return _text(data)
            reason = self._harmless(_reason(data) or response.reason_phrase)
            if response.status_code in (400, 422) and _adapt(fields, sent, reason):
                continue
            if response.is_redirect:
                raise HeadscanError(
                    f"{self.host} redirects (status {response.status_code}): give the address it leads to"
                )
            problem = f"status {response.status_code}: {reason}"
            if response.status_code not in _RETRIED:
                raise HeadscanError(f"{self.host} refuses: {problem}")
            raise _FailedError(problem, wait_seconds=_retry_after(response.headers.get("Retry-After")))

    async def _body(self, response: Any) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > _LARGEST_ANSWER:
                raise _FailedError(f"an answer of more than {_LARGEST_ANSWER >> 20} MB")
        return bytes(data)

    @property
    def host(self) -> str:
        """The service's host and port: what messages name."""
        return urllib.parse.urlsplit(self.url).netloc

    def _harmless(self, text: str) -> str:
        """Return one short line, the key blotted out should a service echo it."""
        key = os.environ.get(self.key_variable)
        return one_line(text.replace(key, "(the key)") if key else text, longest=200)


def _text(data: bytes) -> str:
    try:
        choice = json.loads(data)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise _FailedError("the answer is no chat completion") from error
    if choice.get("finish_reason") == "length":
        raise _FailedError("the answer was cut off")
    if not isinstance(text, str):
        raise _FailedError("the answer holds no text")
    return text


def _reason(data: bytes) -> str:
    """Return a refusal's message, with the name of the field where it is said."""
    try:
        error = json.loads(data)["error"]
        return (
            str(error) if isinstance(error, str) else f"{error.get('message', '')} {error.get('param') or ''}".strip()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


def _adapt(fields: dict[str, Any], sent: dict[str, Any], reason: str) -> bool:
    """Leave out, or rename, the optional field that a refusal names; say whether there was one."""
    named = next((name for name in sent if name in reason), None)
    if named is None:
        return False
    if named in fields:  # another question may have been faster
        value = fields.pop(named)
        other = _OTHER_NAMES.get(named)
        if other is not None:
            fields[other] = value
    return True


def _retry_after(value: str | None) -> float | None:
    try:
        return min(max(float(value or "x"), 0.0), _LONGEST_WAIT)
    except ValueError:  # none, or a date: our own wait serves
        return None
