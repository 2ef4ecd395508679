"""A server's answer to one request, which is checked in every part.

A guard bounds the size of the answer before anything else reads it, and refuses redirections to other servers.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from nuner_embed import metadata
from nuner_embed.annotation.parser import answer_of
from nuner_embed.annotation.replies import FILTERED
from nuner_embed.documents import is_text
from nuner_embed.errors import AnnotationError
from nuner_embed.files import parse_json
from nuner_embed.limits import MIB
from nuner_embed.printable import printable

# With these, a request is repeated as it was; with others, a POST becomes a GET.
_REPEATED = frozenset({307, 308})
_LONGEST_ADDRESS = 200


class TooLarge(Exception):
    """The answer has more bytes than are read."""


class Guard:
    """A hook for the responses of an HTTP client, called before their bodies are read.

    Args:
        limit: bytes of a body, as sent and decompressed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def __call__(self, response: Any) -> None:
        """Refuses redirections to other servers, and reads the body within the limit.

        Raises:
            AnnotationError: a redirection to another origin, or one that would change the request.
            TooLarge: the body has more bytes than the limit; the connection is closed.
        """
        if response.has_redirect_location:
            _require_the_same_origin(response)
        pieces: list[bytes] = []
        length = 0
        async for piece in response.aiter_bytes():  # the libraries unpack a mebibyte at most at a time
            pieces.append(piece)
            length += len(piece)
            if max(length, response.num_bytes_downloaded) > self._limit:
                raise TooLarge(
                    f"the answer has more than {self._limit / MIB:g} MiB; --max-reply-mib sets how much is read"
                )
        response._content = b"".join(pieces)  # where reading puts it: the libraries have no other way to bound it


def _require_the_same_origin(response: Any) -> None:
    there = str(response.headers.get("location", ""))
    try:
        target = response.request.url.join(there)
        same = _origin(target) == _origin(response.request.url)
    except Exception:  # of the HTTP library: an address that is none
        target, same = there, False
    if same and response.status_code in _REPEATED:
        return
    status = f"HTTP {response.status_code}"
    if same:
        raise AnnotationError(
            f"the server redirects ({status}) to {_shown(target)}, which would turn the "
            "request into a GET; name the final address with --base-url"
        )
    raise AnnotationError(
        f"the server redirects ({status}) to {_shown(target)}, another server, which gets neither the texts nor the "
        "key; to use that server, name it with --base-url"
    )


def _origin(url: Any) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port


def _shown(url: object) -> str:
    """An address without its user, password and query, which may be secret."""
    try:
        parts = urlsplit(str(url))
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        plain = "an address that is none"
    return printable(plain[:_LONGEST_ADDRESS])


_LONGEST_NAME = 200


class Garbage(Exception):
    """An answer of status 200 holds no chat completion; the same request may get a better one."""


class NoAnswer(Exception):
    """The answer is useless, and the same request would probably get the same answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        reply: the model's text.
        finish_reason: why the text ended, in the server's words; "" if unknown.
        served_by: the model that the server names; "" if unknown.
        prompt_tokens: by the server's count; 0 if unknown.
        completion_tokens: by the server's count; 0 if unknown.
    """

    reply: str
    finish_reason: str
    served_by: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class _Message:
    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


@dataclass(frozen=True, slots=True)
class _Choice:
    message: _Message
    finish_reason: Any = None


@dataclass(frozen=True, slots=True)
class _Completion:
    choices: list[Any]
    model: Any = None
    usage: Any = None


def read_answer(body: bytes) -> Answer:
    """Reads the body of an answer of status 200.

    Raises:
        Garbage: the body is no chat completion, or holds no text.
        NoAnswer: the reply ends within the model's reasoning, or the body is nested too deeply.
    """
    try:
        completion = parse_json(body)
    except ValueError as error:
        if "nested" in str(error):
            raise NoAnswer(f"the answer is {error}") from None
        raise Garbage("the answer is not JSON") from None
    try:
        whole = metadata.convert(completion, _Completion)
        choice = metadata.convert(whole.choices[0], _Choice)
    except (ValueError, IndexError):
        raise Garbage("the answer is not a chat completion") from None
    message = choice.message
    content = _text_of(message.content)
    finish = "content_filter" if message.refusal else _name(choice.finish_reason)
    filtered = finish.lower() in FILTERED
    if not filtered and _is_all_reasoning(content, message):
        raise NoAnswer(
            "the answer ends within its reasoning; raise the token limit or turn reasoning off with --llm-option, "
            "using a field that the server knows"
        )
    if content is None and not filtered:
        raise Garbage("the answer holds no text")
    served_by = _name(whole.model)
    if not all(map(is_text, (content or "", finish, served_by))):
        raise Garbage("the answer is not valid Unicode")
    usage = whole.usage if isinstance(whole.usage, dict) else {}
    counts = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return Answer(content or "", finish, served_by, *counts)


def _name(value: object) -> str:
    return value[:_LONGEST_NAME] if isinstance(value, str) else ""


def _count(value: object) -> int:
    """Tokens, where the server gives a number."""
    return value if type(value) is int and 0 <= value < 2**53 else 0


def _text_of(content: object) -> str | None:
    """The text of an answer, which some servers give in parts, the reasoning in parts of its own."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def _is_all_reasoning(content: str | None, message: _Message) -> bool:
    """Whether the message holds reasoning, in the content or beside it, and no answer after it."""
    answer, unfinished = answer_of(content or "")
    beside = bool(message.reasoning_content or message.reasoning)
    return not answer.strip() and (unfinished or beside or isinstance(message.content, list))
