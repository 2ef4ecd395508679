"""Asking an LLM on a server that misbehaves."""

import json
import time

import pytest
from llm_server import KEY, completion
from six_texts import TEXTS, lines, reply

from nuner_embed.annotation.client import retry_after_seconds
from nuner_embed.annotation.report import REPLIES_SUFFIX, beside
from nuner_embed.errors import AnnotationError


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
        (b"<html>busy</html>", "the answer is not JSON"),
        ({"hello": 1}, "the answer is not a chat completion"),
        ([], "the answer is not a chat completion"),
        ({"choices": 5}, "the answer is not a chat completion"),
        ({"choices": "abc"}, "the answer is not a chat completion"),
        ({"choices": [None]}, "the answer is not a chat completion"),
        ({"choices": {"a": 1}}, "the answer is not a chat completion"),
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


THOUGHT = "Clara <> harbour"


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": THOUGHT},
        {"content": "", "reasoning_content": THOUGHT},
        {"content": " \n", "reasoning": THOUGHT},
        {"content": f"<think>{THOUGHT}"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}]},
    ],
)
@pytest.mark.parametrize("finish", ["length", "stop"])
def test_an_answer_that_is_all_reasoning_is_told_and_asked_for_again_the_next_time(llm, job, tmp_path, message, finish):
    def misbehave(number, text, handler):
        if "Clara" in text:
            handler.answer({"model": "m"}, None, message={"role": "assistant", **message}, finish_reason=finish)
        return "Clara" in text

    llm.misbehave = misbehave
    report, asking = job(concurrency=1)
    (reason,) = asking.failures
    assert reason.startswith("the answer ends within its reasoning; raise the token limit or turn reasoning off")
    assert (llm.asked.count(TEXTS[2]), asking.answered, report.concepts["harbour"]) == (1, 5, 0)
    llm.misbehave = lambda number, text, handler: False
    assert job()[1].answered == 1


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Clara <> ferry", "reasoning_content": THOUGHT},
        {"content": "Clara <> ferry", "reasoning": THOUGHT},
        {"content": f"<think>{THOUGHT}</think>\nClara <> ferry"},
        {"content": f"{THOUGHT}</think>\nClara <> ferry"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                {"type": "text", "text": "Clara <> ferry"},
            ]
        },
    ],
)
def test_what_is_answered_after_reasoning_is_read(llm, job, message):
    def misbehave(number, text, handler):
        handler.answer({"model": "m"}, None, message={"role": "assistant", **message})
        return True

    llm.misbehave = misbehave
    report, asking = job(TEXTS[2:3])
    assert (report.sentences, report.concepts, asking.failures) == (1, {"ferry": 1}, {})


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY"])
def test_refusals_are_counted(llm, job, finish):
    llm.reply = lambda text: "I'm sorry, but I can't help with that." if "Clara" in text else reply(text)

    def misbehave(number, text, handler):
        if "Dora" not in text:
            return False
        handler.answer({"model": "m"}, None, finish_reason=finish)
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
