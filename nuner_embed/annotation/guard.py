"""What a server sends, bounded before anything else looks at it, and never asked for elsewhere."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from nuner_embed.errors import AnnotationError
from nuner_embed.limits import MIB
from nuner_embed.printable import printable

# With these, a request is repeated as it was; with others, a POST becomes a GET.
_REPEATED = frozenset({307, 308})
_LONGEST_ADDRESS = 200


class TooLarge(Exception):
    """An answer of more bytes than are read."""


class Guard:
    """A hook for the responses of an HTTP client, called before their bodies are read.

    Args:
        limit: bytes of a body, as sent and decompressed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def __call__(self, response: Any) -> None:
        """Refuses what leads elsewhere, and reads the body, which is handed on.

        Raises:
            AnnotationError: a redirection to another origin, or one that would change the request.
            TooLarge: the body has more bytes than the limit; the connection is closed.
        """
        if response.has_redirect_location:
            _require_the_same_origin(response)
        pieces: list[bytes] = []
        length = 0
        async for piece in response.aiter_bytes():  # the libraries unpack a mebibyte at most at a time
            pieces.append(piece)
            length += len(piece)
            if max(length, response.num_bytes_downloaded) > self._limit:
                raise TooLarge(
                    f"the answer has more than {self._limit / MIB:g} MiB; --max-reply-mib sets how much is read"
                )
        response._content = b"".join(pieces)  # where reading puts it: the libraries have no other way to bound it


def _require_the_same_origin(response: Any) -> None:
    there = str(response.headers.get("location", ""))
    try:
        target = response.request.url.join(there)
        same = _origin(target) == _origin(response.request.url)
    except Exception:  # of the HTTP library: an address that is none
        target, same = there, False
    if same and response.status_code in _REPEATED:
        return
    status = f"HTTP {response.status_code}"
    if same:
        raise AnnotationError(
            f"the server redirects ({status}) to {_shown(target)}, where the request would be another one (GET); name "
            "the address that takes requests with --base-url"
        )
    raise AnnotationError(
        f"the server redirects ({status}) to {_shown(target)}, another server, which gets neither the texts nor the "
        "key; if it is to have them, name it with --base-url"
    )


def _origin(url: Any) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port


def _shown(url: object) -> str:
    """An address without what may be secret in it."""
    try:
        parts = urlsplit(str(url))
        plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        plain = "an address that is none"
    return printable(plain[:_LONGEST_ADDRESS])
