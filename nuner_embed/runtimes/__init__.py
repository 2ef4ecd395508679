"""Running models: one file a runtime, all behind one protocol."""
