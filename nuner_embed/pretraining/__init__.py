"""Contrastive pre-training of the bi-encoder: sections 3.2 and 3.3 of the paper."""
