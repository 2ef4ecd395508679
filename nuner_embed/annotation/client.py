"""Asking an LLM about many texts at once: limits, deadlines, retries, and when to stop."""

import asyncio
import email.utils
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import openai

from nuner_embed.annotation.answers import Answer, Garbage, NoAnswer, TooLarge, read_answer
from nuner_embed.annotation.instruction import Instruction
from nuner_embed.annotation.ledger import KeptReply
from nuner_embed.annotation.server import LLMServer
from nuner_embed.errors import AnnotationError, NunerEmbedError
from nuner_embed.printable import printable

Asked = Callable[[KeptReply], None]
_LONGEST_WAIT_SECONDS = 600.0
_LONGEST_BACKOFF_SECONDS = 30.0
_FAILURES_IN_A_ROW = 20
_LONGEST_REASON = 300
_SECRET_CHARACTERS = 16
# account, address or model are wrong: every other text would fail too
_HOPELESS = frozenset({401, 402})
_HOPELESS_AT_FIRST = frozenset({403, 404, 405})  # after a first success, the text may have been moderated
_WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429})


class Asker:
    """Asks a server about texts, and hands over each reply when it arrives.

    Args:
        server: the server to ask.
        instruction: the instruction for each text.
        max_requests: most HTTP requests, retries included; None for no limit.
        proven: the server has answered before, so that a failure is probably due to the text.
    """

    def __init__(
        self, server: LLMServer, instruction: Instruction, max_requests: int | None = None, *, proven: bool = False
    ) -> None:
        self._server, self._instruction = server, instruction
        self._left = max_requests
        self._not_before = 0.0
        self._in_a_row = 0
        self._under_way = 0
        self._end: NunerEmbedError | None = None
        self._unkept: list[KeptReply] = []
        self._proven = proven
        self.requests = 0
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self.stopped: str | None = None
        self._secret = server.key()

    def ask(self, texts: Iterable[tuple[str, str]], asked: Asked) -> None:
        """Asks about `(key, text)` pairs and passes every reply to `asked` when it arrives, in any order.

        Texts that got no reply are counted in `failures`. `stopped` says why it ended early: the limit
        of requests was reached.

        Raises:
            AnnotationError: the server refuses every request, because the key, the model or the address is wrong, or
                the server cannot be reached through the proxies of the environment.
        """
        work = self._run(iter(texts), asked)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(work)
            return
        from concurrent.futures import ThreadPoolExecutor  # in a notebook, where an event loop runs already

        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(asyncio.run, work)
            try:
                running.result()
            except BaseException:
                self.stopped = "interrupted"  # requests under way are awaited, and their replies kept
                raise

    async def _run(self, texts: Iterator[tuple[str, str]], asked: Asked) -> None:
        async with self._server.client() as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._server.concurrency):
                        group.create_task(self._work(client, texts, asked))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        self._hand_over_again(asked)
        if self._end is not None:
            raise self._end

    async def _work(self, client: openai.AsyncOpenAI, texts: Iterator[tuple[str, str]], asked: Asked) -> None:
        while not self._is_over:
            try:
                key, text = next(texts)
                self._under_way += 1
                try:
                    kept = await self._ask_until_answered(client, key, text)
                finally:
                    self._under_way -= 1
            except StopIteration:
                return
            except NunerEmbedError as error:
                # requests under way will be paid for: they run to their end, and their replies are kept
                self._end = self._end or error
                return
            if kept is not None:
                self._proven = True
                self._in_a_row = 0
                self._hand_over(kept, asked)

    def _hand_over(self, kept: KeptReply, asked: Asked) -> None:
        """Passes a reply on; if it cannot be kept, as on a full disk, the job ends, and tries to keep it once more."""
        try:
            asked(kept)
            self.answered += 1
        except AnnotationError as error:
            self._end = self._end or error
            self._unkept.append(kept)

    def _hand_over_again(self, asked: Asked) -> None:
        left, self._unkept = self._unkept, []
        for kept in left:
            self._hand_over(kept, asked)
        if self._unkept:
            lost = f"{len(self._unkept):,} of the replies that came could not be kept"
            self._end = AnnotationError(f"{self._end} ({lost})")

    async def _ask_until_answered(self, client: openai.AsyncOpenAI, key: str, text: str) -> KeptReply | None:
        for attempt in range(self._server.retries + 1):
            await self._wait_for_turn()
            if self._is_over or not self._take_request():
                return None
            try:
                async with asyncio.timeout(self._server.timeout_seconds):  # bounds slow answers too
                    return self._kept(key, text, await self._request(client, text))
            except Exception as error:  # no answer may end the other requests, which are under way and paid for
                error = _own(error)
                another_try = self._worth_another_try(error)
                pause = self._pause(error, attempt)  # after the last try too, so that the next text waits
                if not another_try or attempt == self._server.retries:
                    self._fail(self._reason(error), of_this_text=not another_try)
                    return None
                await asyncio.sleep(pause)
        return None

    async def _request(self, client: openai.AsyncOpenAI, text: str) -> Answer:
        response = await client.chat.completions.with_raw_response.create(
            model=self._server.llm,
            messages=[{"role": "user", "content": self._instruction.about(text)}],
            temperature=openai.omit if self._server.temperature is None else self._server.temperature,
            extra_body=dict(self._server.options) or None,
        )
        return read_answer(response.content)

    @property
    def _is_over(self) -> bool:
        return self.stopped is not None or self._end is not None

    async def _wait_for_turn(self) -> None:
        while (seconds := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(seconds)

    def _take_request(self) -> bool:
        if self._left is not None:
            if self._left == 0:
                self.stopped = f"the limit of {self.requests:,} requests is reached"
                return False
            self._left -= 1
        self.requests += 1
        return True

    def _kept(self, key: str, text: str, answer: Answer) -> KeptReply:
        reply, finish, served_by = map(self._without_key, (answer.reply, answer.finish_reason, answer.served_by))
        return KeptReply(
            key=key,
            text=text,
            reply=reply,
            finish_reason=finish,
            model=self._server.llm,
            served_by=served_by,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
        )

    def _fail(self, reason: str, of_this_text: bool) -> None:
        """Counts a text without a reply; gives up if other texts are unlikely to get one.

        Raises:
            AnnotationError: the server never answered, or has not answered for many texts in a row.
        """
        self.failures[reason] += 1
        if of_this_text and self._proven:
            return
        self._in_a_row += 1
        # another request may still be answered
        others = self._under_way > 1 and self._in_a_row < self._server.concurrency
        if not (self._proven or of_this_text or others) or self._in_a_row >= _FAILURES_IN_A_ROW:
            since = f"{self._in_a_row} texts in a row got no reply" if self._in_a_row > 1 else "no text got a reply"
            raise AnnotationError(
                f"{self._server.address} does not answer: {since} ({reason}); the replies so far are kept, "
                "and the same command continues"
            )

    def _worth_another_try(self, error: Exception) -> bool:
        """Whether the same request may succeed later.

        Raises:
            AnnotationError: no request can succeed.
        """
        if isinstance(error, AnnotationError):
            raise error
        status = getattr(error, "status_code", None)
        code = getattr(error, "code", None)
        if status in _HOPELESS or code == "insufficient_quota" or (status in _HOPELESS_AT_FIRST and not self._proven):
            raise AnnotationError(
                f"{self._server.address} refuses model {self._server.llm!r}: {self._reason(error)}; check --llm, "
                f"--base-url and the key in {self._server.key_variable}"
            ) from None
        if isinstance(error, openai.APIStatusError):
            return status in _WORTH_ANOTHER_TRY or (status or 0) >= 500
        return isinstance(error, openai.APIError | TimeoutError | Garbage)

    def _pause(self, error: Exception, attempt: int) -> float:
        """Seconds before the next try; a Retry-After holds every other request back too.

        Raises:
            AnnotationError: the server asks to wait for more than ten minutes.
        """
        longest = min(_LONGEST_BACKOFF_SECONDS, self._server.backoff_seconds * 2.0**attempt)
        backoff = longest * random.uniform(0.5, 1.0)  # noqa: S311  # random, so that workers do not retry at the same time
        headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
        asked = retry_after_seconds(headers)
        if asked is None:
            return backoff
        if asked > _LONGEST_WAIT_SECONDS:
            raise AnnotationError(
                f"{self._server.address} asks to wait {asked:,.0f} s; what was answered is kept, the same command "
                "goes on then"
            )
        self._not_before = max(self._not_before, time.monotonic() + asked)
        return backoff

    def _reason(self, error: Exception) -> str:
        """One line about an error, without the key."""
        status = getattr(error, "status_code", None)
        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return f"no whole answer within {self._server.timeout_seconds:g} s"
        if isinstance(error, openai.APIConnectionError):
            return self._one_line(f"the connection failed: {_deepest(error)}{self._server.way()}")
        if isinstance(error, openai.APIStatusError):
            body = error.body.get("message") if isinstance(error.body, dict) else None
            said = body if isinstance(body, str) else f"HTTP {status}"
            return self._one_line(said if str(status) in said else f"HTTP {status}: {said}")
        if isinstance(error, Garbage | NoAnswer | TooLarge):
            return self._one_line(str(error))
        return self._one_line(f"{type(error).__name__}: {error}")

    def _one_line(self, text: str) -> str:
        shown = printable(" ".join(self._redacted(text).split()))
        return shown if len(shown) <= _LONGEST_REASON else shown[: _LONGEST_REASON - 3] + "..."

    def _redacted(self, text: str) -> str:
        """The text with the key replaced."""
        return text.replace(self._secret, "[key]") if self._secret else text

    def _without_key(self, text: str) -> str:
        """A reply without the key; a short key is no secret but a placeholder for a local server, such as "none"."""
        return self._redacted(text) if len(self._secret) >= _SECRET_CHARACTERS else text


def _own(error: Exception) -> Exception:
    """The error of this package among the causes of an error, which the library may wrap; else the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AnnotationError | TooLarge):
            return cause
        cause = cause.__cause__
    return error


def _deepest(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The seconds in `retry-after-ms` or `Retry-After` (seconds or a date); None if neither is usable."""
    try:
        milliseconds = float(headers.get("retry-after-ms", ""))
        return max(0.0, milliseconds / 1000) if math.isfinite(milliseconds) else None
    except ValueError:
        pass
    value = headers.get("retry-after", "")
    try:
        seconds_asked = float(value)
        return max(0.0, seconds_asked) if math.isfinite(seconds_asked) else None
    except ValueError:
        date = email.utils.parsedate_tz(value)
        if date is None:
            return None
        try:
            seconds: float = email.utils.mktime_tz(date) - time.time()
        except (ValueError, OverflowError):
            return None
        return max(0.0, seconds)
