"""Search texts with LangChain and the vectors of nuner-embed; needs langchain-core.

python examples/langchain_embeddings.py MODEL TEXTS QUERY, where MODEL is a name or a directory, and TEXTS any corpus
"""

import sys

from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

import nuner_embed


class NunerEmbeddings(Embeddings):
    """The mean of the embeddings of a text's tokens, of unit length."""

    def __init__(self, model: str = "nuner-mini") -> None:
        self._vectorizer = nuner_embed.TextVectorizer(model=model, normalize=True).fit()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        return self._vectorizer.transform(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text."""
        return self.embed_documents([text])[0]


if __name__ == "__main__":
    model, corpus, query = sys.argv[1:]
    store = InMemoryVectorStore(NunerEmbeddings(model))
    documents = [item for item in nuner_embed.Corpus(corpus) if isinstance(item, nuner_embed.Document)]
    store.add_texts([document.text for document in documents], [{"id": document.id} for document in documents])
    for found, score in store.similarity_search_with_score(query, k=3):
        print(f"{score:.3f}  {found.page_content}  {found.metadata['id']}")
