"""An HTTP server: embeddings of texts, mentions, words and tokens, search, and typed mentions.

Requests run in threads of their own, and share one thread that computes: see `shared_runtime`. The server knows an
index only as `contracts.SearchIndex`; the command line, which may import both, opens indexes for the server.
"""
