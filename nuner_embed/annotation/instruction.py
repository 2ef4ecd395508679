"""The instruction for the LLM: the paper's open instruction (Figure 2) in our own words."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nuner_embed.errors import AnnotationError
from nuner_embed.files import hash_of, read_bytes
from nuner_embed.limits import INSTRUCTION_BYTES

PLACE = "{text}"
# The key of a kept reply includes the whole wording: after a change here, every text is asked again. The version is for
# people.
VERSION = "open-1"
_OPEN = """\
You are annotating text for a data set from which models learn to recognise entities of any kind.

List everything in the text below that deserves a type: people, places and organisations, but also things, events, \
quantities, roles, topics and abstract ideas. Mark as much as you can. Choose the types freely and as specific as is \
natural; invent types that no usual list of entity types has. A type must say what the thing is, never its part of \
speech, and things without meaning are to be left out.

Write one annotation a line and nothing else, in three parts with <> between them:
the entity, copied exactly from the text <> its concept <> a few words that describe the concept
Give an entity a line for each concept that fits it.

Text:
{text}"""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A wording with a place for the text.

    Attributes:
        name: for people: the version of the built-in one, or a file's name.
        wording: holds `{text}` once.
    """

    name: str
    wording: str

    @classmethod
    def open_ended(cls) -> Self:
        """The built-in instruction."""
        return cls(VERSION, _OPEN)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The instruction in a file.

        Raises:
            AnnotationError: the file cannot be read, or does not hold `{text}` exactly once.
        """
        try:
            wording = read_bytes(path, INSTRUCTION_BYTES).decode("utf-8").strip()
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            said = "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else said
            raise AnnotationError(f"{path}: the instruction cannot be read: {said}") from None
        if wording.count(PLACE) != 1:
            raise AnnotationError(
                f"{path}: an instruction must hold {PLACE} exactly once, in place of the text; found "
                f"{wording.count(PLACE)} times"
            )
        return cls(path.name, wording)

    def about(self, text: str) -> str:
        """The message for one text."""
        return self.wording.replace(PLACE, text)

    def key(self, text: str, model: str, temperature: float | None, options: Mapping[str, Any] | None = None) -> str:
        """The key of a kept reply: a hash of everything that decides what the LLM is asked, 32 hex digits."""
        decisive: list[Any] = [text, self.wording, model, None if temperature is None else temperature + 0.0]
        if options:  # left out if empty, so that keys of earlier versions stay valid
            decisive.append(dict(options))
        return hash_of(decisive)[:32]
