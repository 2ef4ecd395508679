"""The bodies of answers, for the description of the interface; `endpoints` writes them."""

from pydantic import BaseModel, Field


class Failure(BaseModel):
    """What went wrong."""

    message: str = Field(description="One line.")
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """The answer to a request that fails."""

    error: Failure


class Embedding(BaseModel):
    """The vector of one input."""

    object: str
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens of all inputs, special tokens left out."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """Vectors in the order of the inputs."""

    object: str
    data: list[Embedding]
    model: str
    usage: Usage


class RowsAnswer(BaseModel):
    """The tokens or words of one input."""

    offsets: list[tuple[int, int]] = Field(description="text[start:end] of each, in code points.")
    embeddings: list[list[float]] | str


class FoundSpan(BaseModel):
    """A mention."""

    start: int
    end: int
    text: str
    label: str | None
    score: float | None


class SpansAnswer(BaseModel):
    """The mentions of one input."""

    spans: list[FoundSpan]


class Hit(BaseModel):
    """A row of an index."""

    rank: int
    score: float
    id: int
    document_id: str
    start: int
    end: int
    text: str
    label: str | None
    context: str
    context_start: int


class HitsAnswer(BaseModel):
    """Hits, best first."""

    hits: list[Hit]


class ModelFacts(BaseModel):
    """A model, with what goes with it."""

    id: str
    object: str
    created: int
    owned_by: str
    dim: int
    heads: dict[str, list[str]] = Field(description="The types of each head.")
    indexes: list[str]


class ModelsAnswer(BaseModel):
    """The models of the server: one."""

    object: str
    data: list[ModelFacts]


class Health(BaseModel):
    """Whether the server answers requests."""

    status: str
