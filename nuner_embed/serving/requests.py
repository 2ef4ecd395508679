"""The bodies of requests."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from nuner_embed.heads import NAMED_THRESHOLD
from nuner_embed.limits import SERVED_HITS, SERVED_TYPES

_Item = TypeVar("_Item")
Probability = Annotated[float, Field(gt=0, lt=1)]
# A list is read up to its first wrong item: a small body can hold millions of them, and each error takes a kilobyte.
Items = Annotated[list[_Item], Field(fail_fast=True)]


def _few(types: Any) -> Any:
    """Refuses too many types before any of them is read."""
    if isinstance(types, dict):
        _require_few_names(types.values())
    elif isinstance(types, list):
        _require_few_names([types])
    return types


def _require_few_names(several: Any) -> None:
    names = 0
    for one in several:
        names += len(one) if isinstance(one, list) else 1
    if names > SERVED_TYPES:
        raise ValueError(f"{names:,} names of types, and a request has at most {SERVED_TYPES}; send several requests")


class _Body(BaseModel):
    """An unknown field is an error: a misspelt option is never left out silently."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown(cls, body: Any) -> Any:
        """Keeps one unknown field: the first is reported, and the errors of many would fill the memory."""
        if not isinstance(body, dict):
            return body
        known = {name for field, facts in cls.model_fields.items() for name in (field, facts.alias)}
        first = next((name for name in body if name not in known), None)
        return {name: value for name, value in body.items() if name in known or name == first}


class Mention(_Body):
    """A mention in its text, given by character offsets."""

    text: str
    start: int = Field(ge=0, description="First character of the mention (a Unicode code point, as in Python).")
    end: int = Field(description="One past the last character of the mention.")


class ExampleSpan(_Body):
    """An example of what is looked for."""

    start: int = Field(ge=0)
    end: int
    label: str | None = Field(default=None, description="- for a counter-example.")


class ExampleText(_Body):
    """A text with examples."""

    text: str
    spans: Items[ExampleSpan] = Field(min_length=1)


class EmbeddingsRequest(_Body):
    """Texts or mentions to embed, as OpenAI's embeddings API takes them; `rows` and `normalize` are additions."""

    model: str = Field(description="The name of the model, as GET /v1/models gives it.")
    input: str | Items[str | Mention] = Field(description="One text, or several.")
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="base64: the bytes of 32-bit floating-point numbers, little-endian."
    )
    dimensions: int | None = Field(default=None, description="Must be the width of the model's vectors, if given.")
    user: str | None = Field(default=None, description="Ignored.")
    rows: Literal["text", "mention"] = Field(
        default="text",
        description="text: a text's vector is the mean of the vectors of its tokens. mention: each input is a text "
        "whose one mention stands in [[double brackets]], or an object with text, start and end; the vector is the "
        "mean of the mention's tokens.",
    )
    normalize: bool | None = Field(
        default=None, description="Scale vectors to length 1; null: as the recipe of the model says."
    )


class EmbedAllRequest(_Body):
    """Texts whose tokens or words are to be embedded; named as text-embeddings-inference names its fields."""

    inputs: str | Items[str] = Field(description="One text, or several.")
    truncate: bool = Field(
        default=False, description="Embed only the first window of a long text; false: lay windows over the text."
    )
    rows: Literal["token", "word"] = Field(default="token", description="Embed every token, or every word.")
    encoding_format: Literal["float", "base64"] = Field(default="float", description="As for /v1/embeddings.")


class PredictRequest(_Body):
    """Texts in which mentions are to be found, by a head that the server loaded, or by the names of types."""

    inputs: str | Items[str] = Field(description="One text, or several.")
    head: str | None = Field(default=None, description="The name of a head; not needed if the server has one head.")
    types: Annotated[Items[str] | dict[str, str | Items[str]] | None, BeforeValidator(_few)] = Field(
        default=None,
        description="Names of types in plain words, or an object that gives each label a name, or several names; "
        f"at most {SERVED_TYPES} names.",
        min_length=1,
    )
    threshold: Probability | None = Field(
        default=None,
        description=f"Least probability of a type; null: that of the head, or {NAMED_THRESHOLD} for names.",
    )
    nested: bool = Field(default=False, description="With types: find mentions within mentions, too.")

    @model_validator(mode="after")
    def _one_way(self) -> "PredictRequest":
        if self.head is not None and self.types is not None:
            raise ValueError("give head or types, not both")
        if self.nested and self.types is None:
            raise ValueError("nested goes with types")
        return self


class SearchRequest(_Body):
    """What to search for: a mention in its context, examples, or the names of types."""

    index: str | None = Field(default=None, description="The name of an index; not needed if the server has one.")
    query: str | Mention | None = Field(
        default=None,
        description="A text whose one mention stands in [[double brackets]]; without brackets, the whole text is the "
        "mention. Or an object with text, start and end.",
    )
    like: Items[str | ExampleText] | None = Field(
        default=None,
        description="Examples: texts with mentions in [[double brackets]], [[a mention|-]] for a counter-example, or "
        "objects with text and spans.",
        min_length=1,
    )
    concept: str | Items[str] | None = Field(
        default=None, description="The name of a type in plain words, or several; a hit is of all types."
    )
    unwanted: str | Items[str] = Field(
        default=[], alias="not", description="With concept: names of types that a hit is not of."
    )
    k: int = Field(default=10, ge=1, le=SERVED_HITS, description="Number of hits.")
    min_score: float | None = Field(default=None, allow_inf_nan=False, description="Leave out hits with a lower score.")
    filter: str | None = Field(
        default=None, description="An SQL condition over the rows of the index, such as label = 'river'."
    )
    unique: Literal["surface", "document"] | None = Field(
        default=None, description="Keep only the best hit of each surface text, or of each document."
    )
    exclude_document: bool = Field(default=False, description="Leave out hits from the texts that the query gives.")
    context: int = Field(default=60, ge=0, le=10_000, description="Characters to show on each side of a hit.")

    @model_validator(mode="after")
    def _one_way(self) -> "SearchRequest":
        if sum(way is not None for way in (self.query, self.like, self.concept)) != 1:
            raise ValueError("give one of query, like and concept")
        if self.concept is None and self.unwanted:
            raise ValueError("not goes with concept")
        if self.concept is not None and self.exclude_document:
            raise ValueError("exclude_document goes with query and like")
        _require_few_names([self.concept, self.unwanted])
        return self
