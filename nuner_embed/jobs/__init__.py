"""The batch job that encodes a corpus into a store."""
