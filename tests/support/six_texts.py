"""Six texts that an LLM is asked about, and what a job writes."""

import json

TEXTS = [f"the ferry {name} left at seven" for name in ("Anna", "Berta", "Clara", "Dora", "Emma", "Frieda")]


def reply(text):
    return f"{text.split()[2]} <> ferry <> a boat\nseven <> time of day <> when"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
