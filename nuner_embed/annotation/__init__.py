"""From texts to concept mentions: an LLM's open annotations, parsed and aligned."""
