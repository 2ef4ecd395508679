"""A component of Haystack that finds the mentions of named types in documents; needs haystack-ai.

python examples/haystack_entities.py MODEL TEXTS TYPE..., where MODEL is a name or a directory, and TEXTS any corpus
"""

import sys
from dataclasses import replace
from typing import Any

from haystack import Document, Pipeline, component

import nuner_embed


@component
class NunerEntityExtractor:
    """Adds `entities` to the meta data of documents: type, text, characters and probability of each mention."""

    def __init__(self, types: list[str], model: str = "nuner-mini") -> None:
        self.types, self.model = types, model
        self._tagger: Any = None

    def warm_up(self) -> None:
        """Loads the model, once for a pipeline."""
        if self._tagger is None:
            self._tagger = nuner_embed.named_tagger(self.types, model=self.model)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """The documents with their mentions."""
        self.warm_up()
        tagged = self._tagger.tag([document.content or "" for document in documents])
        return {"documents": [_with_entities(*pair) for pair in zip(documents, tagged, strict=True)]}


def _with_entities(document: Document, tagged: nuner_embed.Document) -> Document:
    entities = [
        {"type": one.label, "text": tagged.text[one.start : one.end], "start": one.start, "end": one.end,
         "score": one.score}
        for one in tagged.spans
    ]  # fmt: skip
    return replace(document, meta={**document.meta, "entities": entities})


if __name__ == "__main__":
    model, corpus, *types = sys.argv[1:]
    pipeline = Pipeline()
    pipeline.add_component("entities", NunerEntityExtractor(types, model))
    documents = [Document(content=item.text) for item in nuner_embed.Corpus(corpus) if hasattr(item, "text")]
    for document in pipeline.run({"entities": {"documents": documents}})["entities"]["documents"]:
        print(document.content, [(one["text"], one["type"]) for one in document.meta["entities"]])
