"""What a model is before it runs: where its files lie, its recipe, its tokenizer, its hashes."""
