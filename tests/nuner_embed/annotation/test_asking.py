"""Asking an LLM on a server that misbehaves."""

import json
import time

import pytest
from llm_server import KEY, completion, serve

from nuner_embed import Corpus
from nuner_embed.annotation.annotate import REPLIES_SUFFIX, annotate, estimate
from nuner_embed.annotation.asking import Server, retry_after_seconds
from nuner_embed.annotation.convert import beside
from nuner_embed.annotation.instruction import Instruction
from nuner_embed.annotation.ledger import open_ledger
from nuner_embed.annotation.replies import read_replies
from nuner_embed.errors import AnnotationError

TEXTS = [f"the ferry {name} left at seven" for name in ("Anna", "Berta", "Clara", "Dora", "Emma", "Frieda")]


def reply(text):
    return f"{text.split()[2]} <> ferry <> a boat\nseven <> time of day <> when"


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
        of_server |= {name: options.pop(name) for name in list(options) if name in of_server or name == "temperature"}
        server = Server(options.pop("llm", "some-llm"), llm.url, **of_server)
        with Corpus([tmp_path / "corpus.txt"]) as corpus:
            return annotate(corpus, tmp_path / "out.jsonl", server, **options)

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    kept.write_bytes(b'{"key": 3}\n' + kept.read_bytes())
    with pytest.raises(AnnotationError, match=r"out\.replies\.jsonl:1: not a line of kept replies; mend or remove"):
        job()


def test_the_kept_replies_are_a_corpus_of_replies(job, tmp_path):
    job()
    found = list(read_replies([beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)]))
    assert sorted(reply.text for reply in found) == sorted(TEXTS)


def test_a_retry_after_is_honoured_by_every_request(llm, job):
    llm.misbehave = lambda number, text, handler: number == 0 and handler.fail(429, Retry_After="1")
    _, asking = job(concurrency=1)
    times = [request["at"] for request in llm.requests]
    assert times[1] - times[0] >= 1.0
    assert (asking.answered, asking.requests) == (6, 7)


def test_while_one_waits_all_wait(llm, job):
    seen = []

    def misbehave(number, text, handler):
        seen.append((number, time.monotonic()))
        return number == 0 and handler.fail(429, Retry_After="1")

    llm.misbehave = misbehave
    llm.seconds = 0.3  # the other worker is in its first request while the 429 arrives
    job(concurrency=2)
    began = llm.requests[0]["at"]
    assert [number for number, at in seen if 0.2 < at - began < 0.95] == []


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_passing_failure_is_tried_again(llm, job, status):
    llm.misbehave = lambda number, text, handler: number % 2 == 0 and handler.fail(status)
    _, asking = job(concurrency=1)
    assert (asking.answered, asking.requests, asking.failures) == (6, 12, {})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>busy</html>", "the answer is no JSON"),
        ({"hello": 1}, "the answer is no chat completion"),
        ([], "the answer is no chat completion"),
        ({"choices": 5}, "the answer is no chat completion"),
        ({"choices": "abc"}, "the answer is no chat completion"),
        ({"choices": [None]}, "the answer is no chat completion"),
        ({"choices": {"a": 1}}, "the answer is no chat completion"),
        ({"choices": [{"message": {"content": None}}]}, "the answer holds no text"),
        ({"choices": [{"message": {"content": "a <> b"}}], "model": "\ud800"}, "the answer is not valid Unicode"),
    ],
)
def test_garbage_is_tried_again_and_told(llm, job, answer, reason):
    def misbehave(number, text, handler):
        if "Clara" in text:
            handler.send(200, answer)
        return "Clara" in text

    llm.misbehave = misbehave
    _, asking = job(concurrency=1)
    assert asking.answered == 5
    assert asking.failures == {reason: 1}
    assert llm.asked.count(TEXTS[2]) == 3


@pytest.mark.parametrize("usage", [None, 5, {"prompt_tokens": [1]}, {"prompt_tokens": "x"}, {"prompt_tokens": -3}])
def test_a_good_reply_with_odd_counts_is_kept(llm, job, usage):
    def misbehave(number, text, handler):
        handler.send(200, {**completion({"model": "m"}, reply(text), llm), "usage": usage})
        return True

    llm.misbehave = misbehave
    _, asking = job()
    assert (asking.answered, asking.prompt_tokens) == (6, 0)


def test_html_instead_of_json_is_garbage(llm, job):
    def misbehave(number, text, handler):
        if "Clara" in text:
            handler.send(200, b"<html>busy</html>", Content_Type="text/html")
        return "Clara" in text

    llm.misbehave = misbehave
    _, asking = job(concurrency=1)
    assert (asking.answered, sum(asking.failures.values())) == (5, 1)


def half(number, text, handler):
    if "Clara" not in text:
        return False
    body = json.dumps(completion({"model": "m"}, "Clara <> ferry", handler.llm)).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True
    return True


def hang(number, text, handler):
    if "Clara" in text:
        time.sleep(1.5)
    return "Clara" in text


def trickle(number, text, handler):
    """A byte now and then: no single read takes long."""
    if "Clara" not in text:
        return False
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    for _ in range(20):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)
    handler.close_connection = True
    return True


@pytest.mark.parametrize(
    ("misbehave", "reason"),
    [
        (half, "the connection failed: "),
        (hang, "no whole answer within 0.5 s"),
        (trickle, "no whole answer within 0.5 s"),
    ],
)
def test_an_answer_that_does_not_end(llm, job, misbehave, reason):
    llm.misbehave = misbehave
    began = time.monotonic()
    _, asking = job(concurrency=1, timeout_seconds=0.5, retries=1)
    assert time.monotonic() - began < 15
    assert asking.answered == 5
    (failure,) = asking.failures
    assert failure.startswith(reason)


def test_a_cut_reply_loses_its_last_line_only(llm, job):
    llm.finish_reason = "length"
    report, _ = job()
    assert set(report.concepts) == {"ferry"}
    assert report.dropped_annotations == {"last line of a reply that was cut short": 6}


def test_refusals_are_counted(llm, job):
    llm.reply = lambda text: "I'm sorry, but I can't help with that." if "Clara" in text else reply(text)

    def misbehave(number, text, handler):
        if "Dora" not in text:
            return False
        handler.answer({"model": "m"}, None, finish_reason="content_filter")
        return True

    llm.misbehave = misbehave
    report, asking = job()
    assert asking.answered == 6
    assert report.dropped_sentences == {"refusal": 2}
    assert report.sentences == 4


def test_texts_that_are_refused_one_by_one_do_not_stop_the_others(llm, job, tmp_path):
    """Also if they come first, once the server is known to answer; and what is there can be used again."""
    job(TEXTS[:1])
    bad = [f"the ferry bad{i} left at seven" for i in range(25)]
    llm.misbehave = lambda number, text, handler: "bad" in text and handler.fail(403, "moderated")
    _, asking = job([*bad, *TEXTS], concurrency=1)
    assert (asking.answered, asking.unanswered) == (5, 25)
    assert len(lines(tmp_path / "out.jsonl")) == 6
    llm.misbehave = lambda number, text, handler: handler.fail(500)
    report, asking = job([TEXTS[0], bad[0]], occurrences="first")
    assert (report.sentences, asking.failures) == (1, {"HTTP 500: no": 1})


def test_what_is_under_way_when_the_job_ends_is_kept(llm, job, tmp_path):
    """Three requests are answered late; the fourth says at once that the account is empty."""
    llm.seconds = 0.5

    def misbehave(number, text, handler):
        if number == 3:
            handler.send(402, {"error": {"message": "pay"}})
        return number == 3

    llm.misbehave = misbehave
    with pytest.raises(AnnotationError, match="pay"):
        job(concurrency=4)
    assert len(llm.requests) == 4
    assert len(lines(beside(tmp_path / "out.jsonl", REPLIES_SUFFIX))) == 3
    assert len(lines(tmp_path / "out.jsonl")) == 3


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_text_would_mend_stops_at_once(llm, job, status):
    llm.misbehave = lambda number, text, handler: handler.fail(status, f"no model for {KEY}")
    with pytest.raises(AnnotationError, match="refuses model 'some-llm': .*check --llm") as error:
        job(concurrency=1)
    assert len(llm.requests) == 1
    assert KEY not in str(error.value)


def test_an_empty_account_stops_at_once(llm, job):
    def misbehave(number, text, handler):
        handler.send(429, {"error": {"message": "pay", "code": "insufficient_quota"}})
        return True

    llm.misbehave = misbehave
    with pytest.raises(AnnotationError, match="pay"):
        job(concurrency=1)
    assert len(llm.requests) == 1


def test_a_server_that_never_answers_is_given_up(llm, job):
    llm.misbehave = lambda number, text, handler: handler.fail(500, "boom")
    with pytest.raises(AnnotationError, match=r"does not answer: no text got a reply \(HTTP 500: boom\)"):
        job(concurrency=1)
    assert len(llm.requests) == 3


def test_a_server_that_breaks_down_is_given_up_and_nothing_is_lost(llm, job, tmp_path):
    llm.misbehave = lambda number, text, handler: number > 2 and handler.fail(500, "boom")
    texts = [f"the ferry number{i} left at seven" for i in range(40)]
    with pytest.raises(AnnotationError, match="20 texts in a row got no reply"):
        job(texts, concurrency=1, retries=0)
    assert len(lines(beside(tmp_path / "out.jsonl", REPLIES_SUFFIX))) == 3
    llm.misbehave = lambda number, text, handler: False
    _, asking = job(texts)
    assert (asking.kept, asking.answered) == (3, 37)


def test_a_text_that_the_server_will_not_take_is_left_behind(llm, job):
    llm.misbehave = lambda number, text, handler: "Anna" in text and handler.fail(400, "too long")
    _, asking = job(concurrency=1)
    assert (asking.answered, asking.unanswered, asking.failures) == (5, 1, {"HTTP 400: too long": 1})
    assert len(llm.requests) == 6


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
        Server("m").key()
    assert key not in str(error.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "http://localhost:abc/v1", "http://[::1/v1", "http://h:99999/v1", "ftp://h/v1", ""]
)
def test_what_is_no_address(url):
    with pytest.raises(AnnotationError, match="--base-url is no address; expected one such as http"):
        Server("m", url)


@pytest.mark.parametrize("output", ["corpus.jsonl", "other.replies.jsonl", "other.replies.jsonl.gz"])
def test_an_output_that_would_take_something_away(llm, tmp_path, output):
    (tmp_path / "corpus.jsonl").write_text('{"text": "the ferry Anna"}\n')
    with Corpus([tmp_path / "corpus.jsonl"]) as corpus, pytest.raises(AnnotationError, match="name another output"):
        annotate(corpus, tmp_path / output, Server("m", llm.url))
    assert llm.requests == []


def test_kept_replies_are_no_corpus_of_their_own_job(llm, job, tmp_path):
    job()
    kept = beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)
    with Corpus([kept]) as corpus, pytest.raises(AnnotationError, match=r"out\.replies\.jsonl is a file that is read"):
        annotate(corpus, tmp_path / "out.jsonl", Server("m", llm.url))


def test_one_job_at_a_time(llm, job, tmp_path):
    message = "is being written by another annotate; wait for it or stop it"
    with open_ledger(beside(tmp_path / "out.jsonl", REPLIES_SUFFIX)), pytest.raises(AnnotationError, match=message):
        job()


def test_the_same_temperature_is_the_same_request():
    keys = {Instruction("x", "{text}").key("a", "m", temperature) for temperature in (0, 0.0, -0.0)}
    assert len(keys) == 1


def test_secrets_in_the_address_are_not_shown():
    assert Server("m", "https://user:secret@host:8/v1?api_key=secret").address == "https://host:8/v1"


def test_no_key_for_a_server_that_needs_one(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(AnnotationError, match="OPENAI_API_KEY holds no API key"):
        Server("m").key()
    assert Server("m", "http://localhost/v1").key() == ""


def test_within_a_running_loop(llm, job):
    """As in a notebook."""
    import asyncio

    async def cell():
        return job()[1].answered

    assert asyncio.run(cell()) == 6


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Mon, 01 Jan 99999 00:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_seconds(headers) == seconds


def test_retry_after_a_date():
    import email.utils

    wait = retry_after_seconds({"retry-after": email.utils.formatdate(time.time() + 60, usegmt=True)})
    assert 50 < wait <= 60


def test_a_dry_run_asks_nothing(llm, job, tmp_path):
    job(TEXTS[:2])
    (tmp_path / "corpus.txt").write_text("".join(text + "\n" for text in [*TEXTS, TEXTS[5]]))
    instruction = Instruction("x", "{text}")
    server = Server("some-llm", llm.url)
    with Corpus([tmp_path / "corpus.txt"]) as corpus:
        found = estimate(corpus, tmp_path / "out.jsonl", server, Instruction.open_ended(), (1.0, 2.0))
        other = estimate(corpus, tmp_path / "out.jsonl", server, instruction)
    assert len(llm.requests) == 2
    assert (found.texts, found.kept, other.kept, other.cost) == (6, 2, 0, None)
    assert found.cost == pytest.approx((found.prompt_tokens + 2 * found.completion_tokens) / 1e6)
    characters = sum(map(len, TEXTS))
    assert other.prompt_tokens == round((characters + 6 * len("{text}")) / 4)
