"""From documents to embeddings with character offsets: a tokenizer, a runtime and a recipe."""
