"""What the server knows of the parts that the command line hands it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nuner_embed.documents import Document
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.heads.base import Head
from nuner_embed.heads.tagger import Tagger
from nuner_embed.limits import SERVED_BODY_MIB, SERVED_REQUESTS, SERVED_TEXTS, SERVED_TOKENS
from nuner_embed.serving.name_tagger import NameTagger
from nuner_embed.serving.requests import SearchRequest


class SearchIndex(Protocol):
    """An index that was opened for the server; any number of threads may search it."""

    def search(self, asked: SearchRequest, documents: Sequence[Document]) -> list[dict[str, Any]]:
        """The hits of a search, best first, as JSON values.

        Args:
            asked: the request.
            documents: whose spans are searched for; none for names of types.

        Raises:
            NunerEmbedError: the query, the filter or the names cannot be searched for.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request, and all requests together, may take.

    Attributes:
        body_bytes: of the body of a request.
        texts: of a request.
        tokens: of the texts of a request, special tokens left out.
        requests: answered at a time, those that wait included; further ones are refused.
    """

    body_bytes: int = SERVED_BODY_MIB << 20
    texts: int = SERVED_TEXTS
    tokens: int = SERVED_TOKENS
    requests: int = SERVED_REQUESTS


@dataclass(frozen=True, slots=True)
class Served:
    """Everything that the server answers with.

    Attributes:
        model: the name of the model for clients.
        encoder: embeds texts; any number of threads may use it.
        names: tags the mentions of types that are only named; a text that says why not, where the model cannot.
        heads: by name.
        indexes: by name.
    """

    model: str
    encoder: TextEncoder
    names: NameTagger | str
    heads: Mapping[str, Tagger[Head]]
    indexes: Mapping[str, SearchIndex]
