"""Corpora: one file for each format, one policy for bad records."""
