"""Runtimes of models: one file for each runtime, all with one protocol."""
