"""The FAISS backend."""
