"""An OpenAI-compatible server, and the environment variables that decide how it is reached."""

import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from nuner_embed.annotation.answers import Guard
from nuner_embed.errors import AnnotationError
from nuner_embed.limits import MIB, REPLY_MIB
from nuner_embed.printable import printable

if TYPE_CHECKING:
    import openai

URL_VARIABLE = "OPENAI_BASE_URL"
_OPENAI = "https://api.openai.com/v1"
_ACCOUNT_VARIABLES = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_OTHER_VARIABLES = ("NO_PROXY", "SSLKEYLOGFILE")
# Fields of a request that have an option of the command, or would change the form of the answer.
_TAKEN = {
    "model": "use --llm",
    "temperature": "use --temperature",
    "messages": "use --instruction",
    "stream": "nuner-embed reads whole answers",
    "n": "nuner-embed reads one answer",
}


@dataclass(frozen=True, slots=True)
class LLMServer:
    """An OpenAI-compatible server, and how requests to it are sent.

    Attributes:
        llm: the model's name on the server.
        base_url: of the OpenAI-compatible server; None for OPENAI_BASE_URL, or OpenAI's own.
        key_variable: the environment variable with the key.
        concurrency: requests under way at a time.
        timeout_seconds: for one request, from sending it to the last byte of its answer.
        retries: further tries for one text.
        backoff_seconds: before the first of them; doubled before each other, up to 30 s.
        temperature: of sampling; None for the server's own.
        options: further fields of a request, as JSON values: `{"chat_template_kwargs": {"enable_thinking": False}}`.
        max_reply_mib: an answer of more mebibytes, as sent or decompressed, counts as none.
    """

    llm: str
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout_seconds: float = 120.0
    retries: int = 5
    backoff_seconds: float = 1.0
    temperature: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    max_reply_mib: int = REPLY_MIB

    def __post_init__(self) -> None:
        if self.base_url is not None and not _is_address(self.base_url):
            raise AnnotationError("--base-url is not a URL; expected one such as http://localhost:8000/v1")
        for name in self.options:
            if name in _TAKEN:
                raise AnnotationError(f"--llm-option {name}: cannot be set this way; {_TAKEN[name]}")

    @property
    def url(self) -> str:
        """The base URL: the server's own, the environment's, or OpenAI's.

        Raises:
            AnnotationError: the environment's is no address.
        """
        if self.base_url is not None:
            return self.base_url
        url = os.environ.get(URL_VARIABLE, "").strip()
        if url and not _is_address(url):
            raise AnnotationError(
                f"the environment variable {URL_VARIABLE} holds no address; expected one such as "
                "http://localhost:8000/v1, or unset it"
            )
        return url or _OPENAI

    @property
    def address(self) -> str:
        """The base URL for people, without user, password and query, which may be secret."""
        url = urlsplit(self.url)
        return printable(urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", "")))

    def key(self) -> str:
        """The API key; empty if the variable is not set, as a local server allows.

        Raises:
            AnnotationError: OpenAI's own server is meant and the variable is not set, or it holds no key.
        """
        key = _header_value(self.key_variable, "API key")
        if not key and self.url == _OPENAI:
            raise AnnotationError(
                f"the environment variable {self.key_variable} holds no API key; set it, or name a server of your own "
                "with --base-url"
            )
        return key

    def client(self) -> "openai.AsyncOpenAI":
        """A new client of the server.

        Raises:
            AnnotationError: the environment names a proxy or certificates that cannot be used.
        """
        import openai

        for variable in _ACCOUNT_VARIABLES:
            _header_value(variable, "name of an account")
        key, url = self.key(), self.url
        try:
            http = openai.DefaultAsyncHttpxClient()
            http.event_hooks = {"response": [Guard(self.max_reply_mib * MIB)]}
            return openai.AsyncOpenAI(
                api_key=key or "none",  # the library requires a key
                base_url=url,
                max_retries=0,  # the library's retries ignore a Retry-After beyond a minute, and the other requests
                timeout=self.timeout_seconds,
                http_client=http,
            )
        except Exception as error:  # of the HTTP library, whose errors here have no class in common
            raise AnnotationError(_why_no_client(error, openai.DefaultAsyncHttpxClient)) from None

    def way(self) -> str:
        """The proxy or certificates of a connection, for messages: "" or " (through the proxy of HTTPS_PROXY)"."""
        url = urlsplit(self.url)
        proxies = urllib.request.getproxies_environment()
        proxy = next((name for name in (url.scheme, "all") if proxies.get(name)), None)
        if proxy and not urllib.request.proxy_bypass_environment(url.hostname or "", proxies):  # type: ignore[attr-defined]
            return f" (through the proxy of {proxy.upper()}_PROXY)"
        named = [name for name in _CERTIFICATE_VARIABLES if os.environ.get(name)]
        return f" (with the certificates of {named[0]})" if named and url.scheme == "https" else ""


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number, or a bracket that is not closed
        return False


def _header_value(variable: str, what: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise AnnotationError(
            f"the environment variable {variable} holds no {what}: expected one line of ASCII without blanks"
        )
    return value


def _why_no_client(error: Exception, make: Callable[[], object]) -> str:
    """One line with the variable at fault and the cure; never its value, which may hold a password."""
    variable = _to_blame(make)
    if variable is None:
        return f"no HTTP client can be made: {type(error).__name__}: {printable(' '.join(str(error).split()))}"
    kind = variable.upper()
    if kind in _PROXY_VARIABLES:
        if os.environ[variable].lower().startswith("socks"):
            return (
                f"the environment variable {variable} names a SOCKS proxy, which needs the package socksio; "
                f"pip install socksio, or unset {variable}"
            )
        return (
            f"the environment variable {variable} names no proxy that can be used; expected an address such as "
            f"http://localhost:3128, or unset {variable}"
        )
    if kind in _CERTIFICATE_VARIABLES:
        return (
            f"the environment variable {variable} names no certificates that can be read "
            f"({getattr(error, 'strerror', None) or type(error).__name__}); name a PEM file that is there, or unset "
            f"{variable}"
        )
    return f"the environment variable {variable} cannot be used ({type(error).__name__}); correct or unset it"


def _to_blame(make: Callable[[], object]) -> str | None:
    """The first variable that by itself prevents making a client."""
    suspects = {*_PROXY_VARIABLES, *_CERTIFICATE_VARIABLES, *_OTHER_VARIABLES}
    there = [name for name in os.environ if name.upper() in suspects]
    for name in there:
        with _without([other for other in there if other != name]):
            try:
                make()
            except Exception:  # any error here is due to this variable
                return name
    return None


@contextmanager
def _without(names: list[str]) -> Iterator[None]:
    values = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(values)
