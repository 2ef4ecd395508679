"""Encode jobs on a corpus of made-up texts."""

import hashlib
import json
from pathlib import Path

from fakes import HashSpec

from nuner_embed.corpora.corpus import Corpus
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions
from nuner_embed.jobs.reporter import Reporter


class Recording(Reporter):
    def __init__(self):
        self.notices, self.shards, self.plan, self.count = [], [], None, 0

    def notice(self, text):
        self.notices.append(text)

    def started(self, plan):
        self.plan = plan

    def shard(self, name, documents, rows):
        self.shards.append(name)

    def tokens(self, count):
        self.count += count


class StopAfter(Reporter):
    """Interrupts the job at its n-th batch."""

    def __init__(self, batches, error=KeyboardInterrupt):
        self.left, self.error = batches, error

    def tokens(self, count):
        self.left -= 1
        if self.left < 0:
            raise self.error


def job(corpus, store, reporter=None, spec=None, on_error="fail", **options):
    options = {"shard_rows": 500, **options}
    with Corpus([corpus], on_error=on_error) as source:
        return run_job(source, Path(store), JobOptions(spec or HashSpec(), **options), reporter)


def fingerprint(store):
    """The hash of every file of a store but its lock."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(store).iterdir()
        if path.name != ".lock"
    }


def made_up_corpus(path: Path) -> Path:
    """Two hundred texts of eight words, each with a span."""
    words = ["the", "ferry", "left", "at", "seven", "Zürich", "😀", "prescribed"]
    with path.open("w") as stream:
        for i in range(200):
            text = " ".join(words[(i * k) % 8] for k in range(1, 2 + (i * 7) % 60))
            spans = [{"start": 0, "end": len(text.split()[0]), "label": f"l{i % 3}"}]
            stream.write(json.dumps({"text": text, "spans": spans}) + "\n")
    return path
