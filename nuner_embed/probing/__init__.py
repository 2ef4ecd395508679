"""Few-shot NER on frozen features: sampling, the linear probe, what it finds.

Nothing is imported here: `defaults` is read by every command, and scikit-learn takes half a second to load.
"""
