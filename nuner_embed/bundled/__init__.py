"""The sample corpus that ships with the package: written for it, toy data and nothing more."""

from pathlib import Path

FOLDER = Path(__file__).parent
SENTENCES = FOLDER / "sentences.jsonl"
DOCUMENTS = FOLDER / "documents.jsonl"
