"""From documents to embeddings: windows, batches, pooling, and the job that writes them into a store."""
