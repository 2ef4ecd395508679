"""Stores of embeddings on disk: their files and nothing else; no encoder is needed to open one."""
