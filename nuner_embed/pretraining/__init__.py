"""Contrastive pre-training of the bi-encoder."""
