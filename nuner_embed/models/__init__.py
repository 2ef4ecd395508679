"""Models on disk: their files, recipes, tokenizers and hashes."""
