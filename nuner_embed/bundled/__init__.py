"""The sample corpus that ships with the package: written for it, toy data and nothing more."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
SENTENCES = FOLDER / "sentences.jsonl"
DOCUMENTS = FOLDER / "documents.jsonl"
# what the workshop of a ferry company might write, with three types of its own: to learn from, and to be asked
LOGBOOK = FOLDER / "logbook.txt"
UNSEEN_LOGBOOK = FOLDER / "logbook-unseen.txt"


def bundled_texts() -> list[str]:
    """The corpus's texts, those of the sentences first."""
    lines = [*SENTENCES.read_text("utf-8").splitlines(), *DOCUMENTS.read_text("utf-8").splitlines()]
    return [json.loads(line)["text"] for line in lines]
