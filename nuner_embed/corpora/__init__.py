"""Reading corpora: one file a format, one policy for bad records."""
