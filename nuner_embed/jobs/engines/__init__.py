"""Where the shards of a job are encoded: in this process, or in several."""
