"""Asking an LLM: what is asked, kept and refused."""

import pytest
from llm_server import KEY
from six_texts import TEXTS, lines

from nuner_embed import Corpus
from nuner_embed.annotation.instruction import Instruction
from nuner_embed.annotation.job import annotate, estimate
from nuner_embed.annotation.ledger import open_ledger
from nuner_embed.annotation.replies import read_replies
from nuner_embed.annotation.report import REPLIES_SUFFIX, beside
from nuner_embed.annotation.server import LLMServer
from nuner_embed.errors import AnnotationError


def everything_written(folder):
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_every_text_is_asked_about_once_and_aligned(llm, job, tmp_path):
    report, asking = job([*TEXTS, TEXTS[0]])
    assert sorted(llm.asked) == sorted(TEXTS)
    assert (asking.texts, asking.kept, asking.answered, asking.unanswered) == (6, 0, 6, 0)
    written = lines(tmp_path / "out.jsonl")
    assert [record["text"] for record in written] == [*TEXTS, TEXTS[0]]
    assert [record["id"] for record in written] == [f"corpus.txt:{i}" for i in range(1, 8)]
    for record in written:
        found = {(record["text"][s["start"] : s["end"]], s["label"]) for s in record["spans"]}
        assert found == {(record["text"].split()[2], "ferry"), ("seven", "time of day")}
    assert (report.sentences, report.mentions, report.concepts["ferry"]) == (7, 14, 7)
    assert (asking.prompt_tokens, asking.completion_tokens) == (600, 60)


def test_the_request_holds_the_instruction_the_text_and_the_key(llm, job):
    job(TEXTS[:1], temperature=0.5)
    (request,) = llm.requests
    assert request["model"] == "some-llm"
    assert request["temperature"] == 0.5
    assert request["messages"] == [{"role": "user", "content": Instruction.open_ended().about(TEXTS[0])}]
    assert request["key"] == f"Bearer {KEY}"


def test_no_more_requests_at_once_than_allowed(llm, job):
    llm.seconds = 0.1
    job(concurrency=3)
    assert llm.most_at_once == 3


def test_what_is_kept_is_never_asked_for_again(llm, job, tmp_path):
    job()
    first = (tmp_path / "out.jsonl").read_bytes()
    _, asking = job()
    assert len(llm.requests) == 6
    assert (asking.kept, asking.requests) == (6, 0)
    assert (tmp_path / "out.jsonl").read_bytes() == first
    job([*TEXTS, "the ferry Gerda left at seven"])
    assert llm.asked[6:] == ["the ferry Gerda left at seven"]


@pytest.mark.parametrize(
    "change", [{"llm": "other"}, {"temperature": 1.0}, {"instruction": Instruction("x", "Do {text}")}]
)
def test_another_model_temperature_or_instruction_asks_anew(llm, job, change):
    job()
    job(**change)
    assert len(llm.requests) == 12


def test_a_reply_half_written_is_asked_for_again(llm, job, tmp_path):
    job()
    kept = beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)
    content = kept.read_bytes()
    kept.write_bytes(content[:-10])
    job()
    assert len(llm.requests) == 7
    assert sorted(kept.read_bytes().splitlines()) == sorted(content.splitlines())


def test_a_damaged_line_is_named(job, tmp_path):
    job()
    kept = beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)
    first, rest = kept.read_bytes().split(b"\n", 1)
    kept.write_bytes(first + b'\n{"key": 3}\n' + rest)
    message = r"out\.replies\.jsonl:2: not a line of kept replies \(.*key.*\); repair or remove"
    with pytest.raises(AnnotationError, match=message):
        job()


def test_the_kept_replies_are_a_corpus_of_replies(job, tmp_path):
    job()
    found = list(read_replies([beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)]))
    assert sorted(reply.text for reply in found) == sorted(TEXTS)


def test_a_wait_beyond_patience_ends_the_job(llm, job):
    llm.misbehave = lambda number, text, handler: handler.fail(429, Retry_After="86400")
    with pytest.raises(AnnotationError, match="asks to wait 86,400 s"):
        job(concurrency=1)


def test_the_limit_of_requests(llm, job):
    _, asking = job(max_requests=4, concurrency=1)
    assert len(llm.requests) == 4
    assert (asking.answered, asking.unanswered) == (4, 2)
    assert asking.stopped == "the limit of 4 requests is reached"
    llm.misbehave = lambda number, text, handler: handler.fail(500)  # retries count
    job(max_requests=2, concurrency=1)
    assert len(llm.requests) == 6


def test_another_model_answers(llm, job):
    llm.served_by = "some-llm-2031-01-01"
    _, asking = job()
    assert asking.served_by == ("some-llm-2031-01-01",)


def test_the_key_is_nowhere(llm, job, tmp_path):
    """A server that echoes the key in an error, in a reply, and in a model's name."""
    llm.reply = lambda text: f"seven <> {KEY}\n{text.split()[2]} <> ferry"
    llm.served_by = f"model-{KEY}"
    llm.misbehave = lambda number, text, handler: "Anna" in text and handler.fail(400, f"bad key {KEY}")
    report, asking = job(concurrency=1)
    assert asking.failures == {"HTTP 400: bad key [key]": 1}
    assert KEY not in everything_written(tmp_path) + repr(report) + repr(asking)


@pytest.mark.parametrize("key", ["none", "a", "EMPTY"])
def test_a_key_that_is_no_secret_stays_in_replies(llm, job, monkeypatch, key):
    """Servers of one's own are given anything for a key."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    texts = [f"there is {key} a banana"]
    llm.reply = lambda text: f"{key} <> word\na banana <> fruit"
    report, _ = job(texts)
    assert (report.concepts, report.dropped_annotations) == ({"word": 1 + (key == "a"), "fruit": 1}, {})


@pytest.mark.parametrize("key", ["sk-one\nOTHER=2", "schlüssel-0123456789", "two words"])
def test_a_key_that_is_none_is_not_shown(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(AnnotationError, match="OPENAI_API_KEY holds no API key: expected one line") as error:
        LLMServer("m").key()
    assert key not in str(error.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "http://localhost:abc/v1", "http://[::1/v1", "http://h:99999/v1", "ftp://h/v1", ""]
)
def test_what_is_no_address(url):
    with pytest.raises(AnnotationError, match="--base-url is not a URL; expected one such as http"):
        LLMServer("m", url)


@pytest.mark.parametrize("output", ["corpus.jsonl", "other.replies.jsonl", "other.replies.jsonl.gz"])
def test_an_output_that_would_take_something_away(llm, tmp_path, output):
    (tmp_path / "corpus.jsonl").write_text('{"text": "the ferry Anna"}\n')
    with Corpus([tmp_path / "corpus.jsonl"]) as corpus, pytest.raises(AnnotationError, match="name another output"):
        annotate(corpus, tmp_path / output, LLMServer("m", llm.url))
    assert llm.requests == []


def test_kept_replies_are_no_corpus_of_their_own_job(llm, job, tmp_path):
    job()
    kept = beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)
    with Corpus([kept]) as corpus, pytest.raises(AnnotationError, match=r"out\.replies\.jsonl is a file that is read"):
        annotate(corpus, tmp_path / "out.jsonl", LLMServer("m", llm.url))


def test_one_job_at_a_time(llm, job, tmp_path):
    message = "is being written by another annotate; wait for it or stop it"
    with open_ledger(beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)), pytest.raises(AnnotationError, match=message):
        job()


def test_the_same_temperature_is_the_same_request():
    keys = {Instruction("x", "{text}").key("a", "m", temperature) for temperature in (0, 0.0, -0.0)}
    assert len(keys) == 1


def test_replies_that_were_kept_before_there_were_options_are_found():
    instruction = Instruction("x", "{text}")
    assert instruction.key("a", "m", None) == instruction.key("a", "m", None, {}) == "5b167945e85972632e2c3dac1e941f78"


def test_secrets_in_the_address_are_not_shown():
    assert LLMServer("m", "https://user:secret@host:8/v1?api_key=secret").address == "https://host:8/v1"


def test_no_key_for_a_server_that_needs_one(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(AnnotationError, match="OPENAI_API_KEY holds no API key"):
        LLMServer("m").key()
    assert LLMServer("m", "http://localhost/v1").key() == ""


def test_within_a_running_loop(llm, job):
    """As in a notebook."""
    import asyncio

    async def cell():
        return job()[1].answered

    assert asyncio.run(cell()) == 6


def test_a_dry_run_asks_nothing(llm, job, tmp_path):
    job(TEXTS[:2])
    (tmp_path / "corpus.txt").write_text("".join(text + "\n" for text in [*TEXTS, TEXTS[5]]))
    instruction = Instruction("x", "{text}")
    server = LLMServer("some-llm", llm.url)
    with Corpus([tmp_path / "corpus.txt"]) as corpus:
        found = estimate(corpus, tmp_path / "out.jsonl", server, Instruction.open_ended(), (1.0, 2.0))
        other = estimate(corpus, tmp_path / "out.jsonl", server, instruction)
    assert len(llm.requests) == 2
    assert (found.texts, found.kept, other.kept, other.cost) == (6, 2, 0, None)
    assert found.cost == pytest.approx((found.prompt_tokens + 2 * found.completion_tokens) / 1e6)
    characters = sum(map(len, TEXTS))
    assert other.prompt_tokens == round((characters + 6 * len("{text}")) / 4)
