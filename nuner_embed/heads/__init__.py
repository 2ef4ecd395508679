"""Heads: what reads the embeddings of texts and says where mentions are, and of which type."""
