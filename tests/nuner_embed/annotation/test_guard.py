"""Answers that are too large, too deep or from elsewhere: each costs its own request and nothing else."""

import gzip
import json
import time

import pytest
from llm_server import KEY, completion, serve
from six_texts import TEXTS, reply

from nuner_embed.errors import AnnotationError

MIB = 1 << 20


def answer_clara(llm, send):
    """Answers the request about Clara by `send(handler)`, others late enough to be under way meanwhile."""

    def misbehave(number, text, handler):
        if "Clara" in text:
            send(handler)
            return True
        time.sleep(0.2)
        return False

    llm.misbehave = misbehave


def endless(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:  # until the client closes the connection
        handler.wfile.write(b" " * 65536)


def bomb(handler):
    """160 kB that unpack to 160 MB, and 200 MB to a JSON text."""
    handler.send(200, gzip.compress(b'"' + b"a" * (160 * MIB) + b'"', 1), Content_Encoding="gzip")


def bomb_in_a_bomb(handler):
    handler.send(200, gzip.compress(gzip.compress(b" " * (200 * MIB), 1)), Content_Encoding="gzip, gzip")


def endless_error(handler):
    handler.send_response(400)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


@pytest.mark.parametrize("send", [endless, bomb, bomb_in_a_bomb, endless_error])
def test_an_answer_that_is_too_large_costs_one_request(llm, job, send):
    answer_clara(llm, send)
    _, asking = job(concurrency=6)
    assert asking.answered == 5
    assert asking.failures == {"the answer has more than 8 MiB; --max-reply-mib sets how much is read": 1}
    assert llm.asked.count(TEXTS[2]) == 1


@pytest.mark.parametrize("depth", [150, 900, 100_000])
def test_an_answer_that_is_nested_too_deeply_costs_one_request(llm, job, depth):
    answer_clara(llm, lambda handler: handler.send(200, b"[" * depth + b"]" * depth))
    _, asking = job(concurrency=6)
    assert (asking.answered, asking.failures) == (5, {"the answer is nested more than 100 levels deep": 1})
    assert llm.asked.count(TEXTS[2]) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{}",
        b"",
        b"null",
        b"17",
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [17]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 17}}]}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b'{"choices": [{"message": {"content": "\\ud800 <> boat"}}]}',
        b'{"choices": [{"message": {"content": "' + b"9" * 5000 + b'"}, "index": ' + b"9" * 5000 + b"}]}",
        b'{"choices": [{"message": {"content": "a <> b"}}], "model": "\\udfff"}',
        b"{" * 3,
    ],
)
def test_an_answer_of_wrong_types_costs_its_own_text_alone(llm, job, body):
    answer_clara(llm, lambda handler: handler.send(200, body))
    _, asking = job(concurrency=6, retries=0)
    assert (asking.answered, sum(asking.failures.values())) == (5, 1)
    assert "\n" not in "".join(asking.failures)


@pytest.mark.parametrize(
    ("content", "finish", "usage"),
    [
        ([{"type": "text", "text": 3}, {"type": "text"}, 4, {"type": "text", "text": "Clara <> ferry"}], "stop", {}),
        ("Clara <> ferry", 17, "many"),
        ("Clara <> ferry", {"a": []}, {"prompt_tokens": "3", "completion_tokens": 1e300}),
        ("Clara <> ferry", "stop", [1]),
    ],
)
def test_odd_types_beside_a_good_reply_do_not_matter(llm, job, content, finish, usage):
    body = completion({"model": "m"}, None, llm)
    body["choices"][0] |= {"message": {"content": content}, "finish_reason": finish}
    answer_clara(llm, lambda handler: handler.send(200, {**body, "usage": usage}))
    report, asking = job()
    assert (asking.answered, asking.failures) == (6, {})


def test_a_good_reply_below_the_bound_is_kept_packed_or_not(llm, job):
    def send(handler):
        body = json.dumps(completion({"model": "m"}, "Clara <> ferry\n" * 1000, llm)).encode()
        handler.send(200, gzip.compress(body), Content_Encoding="gzip")

    answer_clara(llm, send)
    assert job()[1].answered == 6


def test_what_a_server_says_is_escaped(llm, job):
    answer_clara(llm, lambda handler: handler.fail(400, "bad \x1b[31m\u202e\u061c\nword"))
    _, asking = job()
    assert asking.failures == {r"HTTP 400: bad \x1b[31m\u202e\u061c word": 1}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_server_gets_neither_key_nor_text(llm, job, status):
    with serve(reply) as other:
        llm.misbehave = lambda number, text, handler: (
            handler.send(status, b"", Location=f"{other.url}/chat/completions?{KEY}") is None
        )
        with pytest.raises(AnnotationError, match=rf"redirects \(HTTP {status}\) to .*another server.*--base-url") as e:
            job(concurrency=2)
        assert other.requests == []
        assert KEY not in str(e.value)
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirection_that_asks_something_else_is_never_kept(llm, job, tmp_path, status):
    """A 302 turns a POST into a GET, and whatever that page says is no reply."""

    def misbehave(number, text, handler):
        handler.send(status, b"", Location="/elsewhere")
        return True

    llm.misbehave = misbehave
    with pytest.raises(AnnotationError, match=rf"redirects \(HTTP {status}\).*a GET; name the final address"):
        job()
    assert (tmp_path / "out.replies.jsonl").read_bytes() == b""


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirection_within_the_server_is_followed(llm, job, status):
    def misbehave(number, text, handler):
        if handler.path.endswith("/chat/completions"):
            handler.send(status, b"", Location="/v1/other")
            return True
        return False

    llm.misbehave = misbehave
    assert job()[1].answered == 6
    assert all(request["key"] == f"Bearer {KEY}" for request in llm.requests)


@pytest.mark.parametrize(
    "there", ["http://[::1", "//", "javascript:alert(1)", "http://user:hidden@else.where/", "\x1b"]
)
def test_a_redirection_to_nowhere_is_one_line(llm, job, there):
    llm.misbehave = lambda number, text, handler: handler.send(302, b"", Location=there) is None
    with pytest.raises(AnnotationError) as error:
        job(concurrency=1, retries=0)
    assert "hidden" not in str(error.value)
    assert str(error.value).isprintable()


def test_a_circle_of_redirections_ends(llm, job):
    llm.misbehave = lambda number, text, handler: handler.send(307, b"", Location=handler.path) is None
    with pytest.raises(AnnotationError, match="no text got a reply"):
        job(TEXTS[:1], retries=0)
    assert len(llm.requests) < 50


def test_what_is_under_way_when_the_server_redirects_is_kept(llm, job, tmp_path):
    with serve(reply) as other:
        answer_clara(llm, lambda handler: handler.send(307, b"", Location=f"{other.url}/x"))
        with pytest.raises(AnnotationError, match="another server"):
            job(concurrency=6)
    assert len((tmp_path / "out.replies.jsonl").read_bytes().splitlines()) == 5
