"""A server's answer to one request, of which nothing is taken for granted."""

from dataclasses import dataclass
from typing import Any

from nuner_embed import metadata
from nuner_embed.annotation.reasoning import answer_of
from nuner_embed.annotation.replies import FILTERED
from nuner_embed.documents import is_text
from nuner_embed.files import parse_json

_LONGEST_NAME = 200


class Garbage(Exception):
    """An answer of status 200 that is none; the same request may get a better one."""


class NoAnswer(Exception):
    """An answer that the same request is likely to get again, and that is of no use."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        reply: the model's text.
        finish_reason: why it ended, in the server's words; "" if unknown.
        served_by: the model, by the server's account; "" if unknown.
        prompt_tokens: by the server's count, 0 where it gives none.
        completion_tokens: likewise.
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
        Garbage: it is no chat completion, or holds no text.
        NoAnswer: it ends within the model's reasoning, or is nested deeper than any answer.
    """
    try:
        completion = parse_json(body)
    except ValueError as error:
        if "nested" in str(error):
            raise NoAnswer(f"the answer is {error}") from None
        raise Garbage("the answer is no JSON") from None
    try:
        whole = metadata.convert(completion, _Completion)
        choice = metadata.convert(whole.choices[0], _Choice)
    except (ValueError, IndexError):
        raise Garbage("the answer is no chat completion") from None
    message = choice.message
    content = _text_of(message.content)
    finish = "content_filter" if message.refusal else _name(choice.finish_reason)
    filtered = finish.lower() in FILTERED
    if not filtered and _is_all_reasoning(content, message):
        raise NoAnswer(
            "the answer ends within its reasoning; raise the limit of tokens or turn reasoning off with --llm-option, "
            "in your server's words"
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
    """Whether there is reasoning, within the content or beside it, and no answer after it."""
    answer, unfinished = answer_of(content or "")
    beside = bool(message.reasoning_content or message.reasoning)
    return not answer.strip() and (unfinished or beside or isinstance(message.content, list))
