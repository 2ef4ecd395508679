"""Integrations: the parts by which other libraries use this package; each needs the library that its file names."""
