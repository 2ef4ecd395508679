"""The training corpus of our models, and the typed sets that list mentions by words, as documents."""

import gzip
import json

import numpy as np
from common import data_file

from nuner_embed.documents import Document, Span

DATA = "llm-annotated/annotated.jsonl.gz"  # sentences that an LLM annotated with concepts
THESAURUS = "llm-annotated/thesaurus.tsv.gz"  # synonyms and broader types of the concepts, by the same LLM


def typed(name: str) -> list[Document]:
    """The documents of a set of our data that lists mentions by words and types."""
    documents = []
    with gzip.open(data_file(name), "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            one = json.loads(line)
            begins = np.cumsum([0, *(len(word) + 1 for word in one["tokens"])])
            spans = tuple(
                Span(int(begins[first]), int(begins[last + 1]) - 1, label)
                for first, last, labels in one["ents"]
                for label in labels
            )
            documents.append(Document(str(number), " ".join(one["tokens"]), spans=spans))
    return documents


def json_line(document: Document) -> str:
    """A document as a line of an annotated corpus."""
    spans = [{"start": span.start, "end": span.end, "label": span.label} for span in document.spans]
    return json.dumps({"id": document.id, "text": document.text, "spans": spans}) + "\n"
