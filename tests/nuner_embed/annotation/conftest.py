"""A server that annotates, and a job that asks it."""

import pytest
from llm_server import KEY, serve
from six_texts import TEXTS, reply

from nuner_embed import Corpus
from nuner_embed.annotation.job import annotate
from nuner_embed.annotation.server import LLMServer


@pytest.fixture
def llm(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with serve(reply) as server:
        yield server


@pytest.fixture
def job(llm, tmp_path):
    """Runs the job over the six texts, or others, and returns its report and what came of asking."""

    def run(texts=TEXTS, **options):
        (tmp_path / "corpus.txt").write_text("".join(text + "\n" for text in texts))
        of_server = {"concurrency": 2, "timeout_seconds": 20.0, "retries": 2, "backoff_seconds": 0.01}
        of_server |= {
            name: options.pop(name) for name in list(options) if name in (*of_server, "temperature", "options")
        }
        server = LLMServer(options.pop("llm", "some-llm"), llm.url, **of_server)
        with Corpus([tmp_path / "corpus.txt"]) as corpus:
            return annotate(corpus, tmp_path / "out.jsonl", server, **options)

    return run
