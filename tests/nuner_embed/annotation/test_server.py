"""A server, and what of the environment decides how it is reached."""

import pytest
from llm_server import KEY
from six_texts import TEXTS

from nuner_embed.annotation.server import LLMServer
from nuner_embed.errors import AnnotationError

VARIABLES = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ALL_PROXY", "socks5://localhost:1080", "ALL_PROXY names a SOCKS proxy, which .* pip install socksio"),
        ("all_proxy", "socks5h://me:hidden@h:1", "all_proxy names a SOCKS proxy, which needs the package socksio"),
        ("HTTPS_PROXY", "http://h:hidden", "HTTPS_PROXY names no proxy .* expected .* or unset HTTPS_PROXY"),
        ("HTTP_PROXY", "foo://me:hidden@h", "HTTP_PROXY names no proxy that can be used"),
        ("HTTP_PROXY", "http://[::1", "HTTP_PROXY names no proxy that can be used"),
        ("SSL_CERT_FILE", "/hidden/cert.pem", r"SSL_CERT_FILE names no certificates .* \(No such file or directory\)"),
        ("SSL_CERT_FILE", __file__, "SSL_CERT_FILE names no certificates that can be read .* or unset SSL_CERT_FILE"),
    ],
)  # fmt: skip
def test_what_the_environment_makes_impossible(llm, job, monkeypatch, variable, value, message):
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    monkeypatch.setenv(variable, value)
    with pytest.raises(AnnotationError, match=message) as error:
        job(TEXTS)
    assert llm.requests == []
    assert "hidden" not in str(error.value)


def test_of_two_bad_variables_one_is_named_and_both_are_as_they_were(llm, job, monkeypatch):
    import os

    monkeypatch.setenv("HTTPS_PROXY", "http://h:abc")
    monkeypatch.setenv("SSL_CERT_FILE", "/none")
    before = dict(os.environ)
    with pytest.raises(AnnotationError, match="the environment variable (HTTPS_PROXY|SSL_CERT_FILE) names no"):
        job(TEXTS)
    assert {**os.environ} == before


def test_a_client_that_cannot_be_made_for_another_reason(llm, job, monkeypatch):
    import openai

    def fail():
        raise OSError("too many\nopen files")

    monkeypatch.setattr(openai, "DefaultAsyncHttpxClient", fail)
    with pytest.raises(AnnotationError, match="no HTTP client can be made: OSError: too many open files"):
        job(TEXTS)


def test_a_failed_connection_names_the_proxy(monkeypatch):
    server = LLMServer("m", "https://somewhere/v1")
    assert server.way() == ""
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/mine.pem")
    assert server.way() == " (with the certificates of SSL_CERT_FILE)"
    monkeypatch.setenv("HTTPS_PROXY", "http://h:3128")
    assert server.way() == " (through the proxy of HTTPS_PROXY)"
    assert LLMServer("m", "http://somewhere/v1").way() == ""
    monkeypatch.setenv("ALL_PROXY", "http://h:3128")
    assert LLMServer("m", "http://somewhere/v1").way() == " (through the proxy of ALL_PROXY)"
    monkeypatch.setenv("NO_PROXY", "somewhere")
    assert "proxy" not in server.way()


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_variable_is_not_set(monkeypatch, blank):
    monkeypatch.setenv("OPENAI_BASE_URL", blank)
    monkeypatch.setenv("OPENAI_API_KEY", blank)
    with pytest.raises(AnnotationError, match="OPENAI_API_KEY holds no API key; set it, or name a server of your own"):
        LLMServer("m").key()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert str(LLMServer("m").client().base_url) == "https://api.openai.com/v1/"
    assert LLMServer("m").address == "https://api.openai.com/v1"


def test_the_address_of_the_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", " http://localhost:8000/v1\n")
    assert LLMServer("m").key() == ""
    assert str(LLMServer("m").client().base_url) == "http://localhost:8000/v1/"
    assert LLMServer("m", "http://other/v1").url == "http://other/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(AnnotationError, match="OPENAI_BASE_URL holds no address; expected one such as .* or unset it"):
        LLMServer("m").key()


@pytest.mark.parametrize("variable", ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
def test_an_account_that_no_header_can_hold(llm, job, monkeypatch, variable):
    monkeypatch.setenv(variable, "schlüssel")
    with pytest.raises(AnnotationError, match=f"{variable} holds no name of an account: expected one line of ASCII"):
        job(TEXTS)
    assert llm.requests == []


def test_options_travel_in_the_request_and_belong_to_the_key(llm, job):
    options = {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 200}
    job(TEXTS[:1])
    job(TEXTS[:1], options=options)
    job(TEXTS[:1], options=dict(reversed(options.items())))  # the same again
    without, request = llm.requests
    assert (request["chat_template_kwargs"], request["max_tokens"]) == ({"enable_thinking": False}, 200)
    assert "max_tokens" not in without
    assert (request["model"], request["messages"]) == (without["model"], without["messages"])
    job(TEXTS[:1], options={"max_tokens": 300})
    assert len(llm.requests) == 3


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n", "temperature"])
def test_options_that_are_taken(name):
    with pytest.raises(AnnotationError, match=f"--llm-option {name}: cannot be set this way; "):
        LLMServer("m", "http://localhost/v1", options={name: 1})
