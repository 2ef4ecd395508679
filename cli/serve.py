"""`nuner-embed serve`."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from nuner_embed.cli.options import device_option, filter_seconds_option, threads_option
from nuner_embed.limits import SERVED_BODY_MIB, SERVED_REQUESTS, SERVED_TEXTS, SERVED_TOKENS

if TYPE_CHECKING:
    from nuner_embed.encoders.loader import ModelSpec
    from nuner_embed.heads.base import Head
    from nuner_embed.indexes import Index
    from nuner_embed.serving.contracts import Served
    from nuner_embed.serving.loading import IndexOpener

KEY_VARIABLE: Final = "NUNER_EMBED_API_KEY"
_PACKAGES: Final = ("fastapi", "uvicorn", "pydantic", "prometheus_client")


@click.command(epilog="Example: nuner-embed serve --model nuner-mini --index index --head probe --port 8000")
@click.option(
    "--model",
    help="The model: a Hugging Face directory, an exported directory or graph, a known name, or a hub name.  "
    "[default: the model and recipe of the first index or head; nuner-mini without them]",
)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="[NAME=]INDEX",
    help="An index to search. May be repeated. Clients call an index by the name of its directory, or by NAME.",
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="[NAME=]PROBE",
    help="A probe or a fine-tuned model that finds mentions. May be repeated, with names as for --index.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes any free one."
)
@click.option(
    "--api-key",
    envvar=KEY_VARIABLE,
    metavar="KEY",
    help=f"Key that clients must send. The variable {KEY_VARIABLE} hides the key from other users of the machine.",
)
@click.option(
    "--max-body-mib",
    type=click.IntRange(1, 1024),
    default=SERVED_BODY_MIB,
    show_default=True,
    help="Maximum size of the body of a request in MiB.",
)
@click.option(
    "--max-texts",
    type=click.IntRange(1),
    default=SERVED_TEXTS,
    show_default=True,
    help="Maximum number of texts in a request.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=SERVED_TOKENS,
    show_default=True,
    help="Maximum number of tokens in the texts of a request.",
)
@click.option(
    "--max-requests",
    type=click.IntRange(1, 10_000),
    default=SERVED_REQUESTS,
    show_default=True,
    help="Number of requests that are answered or wait at a time; the server refuses further ones with 429.",
)
@click.option(
    "--drain-seconds",
    type=click.IntRange(1, 3600),
    default=30,
    show_default=True,
    help="After SIGTERM or Ctrl-C: how long requests that are under way may take.",
)
@filter_seconds_option
@device_option
@threads_option
def serve(
    model: str | None,
    indexes: tuple[str, ...],
    heads: tuple[str, ...],
    host: str,
    port: int,
    api_key: str | None,
    max_body_mib: int,
    max_texts: int,
    max_tokens: int,
    max_requests: int,
    drain_seconds: int,
    filter_seconds: float,
    device: str,
    threads: int,
) -> None:
    """Answer requests over HTTP: embeddings, search, and mentions of types that are named or learnt.

    POST /v1/embeddings is OpenAI's embeddings API; POST /embed_all gives token and word vectors with offsets; POST
    /search and /predict use the indexes and heads; GET /health, /metrics and /docs are there too. Requests share
    batches. SIGTERM and Ctrl-C end the server once the requests under way are answered.
    """
    _require_packages()
    key = _checked(api_key)
    from nuner_embed.cli.served_index import ServedIndex
    from nuner_embed.heads.io import open_head
    from nuner_embed.indexes import Index
    from nuner_embed.serving.contracts import Bounds
    from nuner_embed.serving.http_server import Address, HttpServer
    from nuner_embed.serving.loading import Order

    # what cannot be opened is said before anything is loaded
    opened = {name: Index.open(path, filter_seconds=filter_seconds) for name, path in _named("--index", indexes)}
    found = {name: (path, open_head(path)) for name, path in _named("--head", heads)}

    def opener(index: "Index") -> "IndexOpener":
        return lambda encoders: ServedIndex.fit(index, encoders)

    order = Order(
        _spec(model, opened.values(), found.values(), device=device, threads=threads),
        {name: head for name, (_, head) in found.items()},
        {name: opener(index) for name, index in opened.items()},
    )
    bounds = Bounds(max_body_mib << 20, max_texts, max_tokens, max_requests)
    address = Address(host, port)
    with address.listen() as listening:
        _say_where(address, listening.getsockname()[1], order.spec.model, with_key=key is not None)
        HttpServer(order.load, bounds, key, drain_seconds).run(listening, _say_what)
    _say_end()


def _require_packages() -> None:
    """Names the extra that is missing."""
    from nuner_embed.errors import RuntimeUnavailable
    from nuner_embed.installation import install_command

    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeUnavailable(f"the server needs {', '.join(missing)}; {install_command('serve')}")


def _checked(key: str | None) -> str | None:
    """The key, if it can be sent in a header; the message never holds it."""
    if key is None or (key and key.isascii() and key.isprintable() and " " not in key):
        return key
    raise click.UsageError(f"--api-key, or {KEY_VARIABLE}, is one line of ASCII without blanks; unset it for no key")


def _named(option: str, given: Iterable[str]) -> list[tuple[str, Path]]:
    """Names and directories of what an option gives."""
    from nuner_embed.files import expand

    found: dict[str, Path] = {}
    for one in given:
        name, equals, path = one.partition("=")
        if not equals or expand(one).exists():
            path, name = one, expand(one).resolve().name
        if not name or not path:
            raise click.UsageError(f"{option} {one!r}: give a directory, or NAME=DIRECTORY")
        if name in found:
            raise click.UsageError(f"{option}: {name!r} stands twice; name one of them with {option} NAME={path}")
        found[name] = Path(path)
    return list(found.items())


def _spec(
    model: str | None, indexes: Iterable["Index"], heads: Iterable[tuple[Path, "Head"]], **options: Any
) -> "ModelSpec":
    """The model that was asked for, or else the one of the first index or head, whose word is a stranger's."""
    from nuner_embed.encoders.loader import ModelSpec
    from nuner_embed.files import expand
    from nuner_embed.heads.io import head_folder
    from nuner_embed.models.known import DEFAULT_MODEL

    if model is not None:
        return ModelSpec(model, **options)
    for index in indexes:
        bundle = index.bundle
        return ModelSpec(bundle.model, recipe=bundle.recipe, semantic_hash=bundle.semantic_hash, **options)
    for path, head in heads:
        if head_folder(path) != expand(path):  # a fine-tuned model, which has its own encoder
            return ModelSpec(str(path), recipe=head.facts.recipe, **options)
        return ModelSpec(head.facts.model, recipe=head.facts.recipe, semantic_hash=head.semantic_hash, **options)
    return ModelSpec(DEFAULT_MODEL, **options)


def _say_where(address: Any, port: int, model: str, *, with_key: bool) -> None:
    from nuner_embed.cli import streams
    from nuner_embed.cli.progress import note

    if not address.is_loopback:
        key = "" if with_key else f", and without a key (set {KEY_VARIABLE})"
        streams.say(f"Warning: {address.host} may be reached from other machines, without encryption{key}")
    host = f"[{address.host}]" if ":" in address.host else address.host
    note(f"listening on http://{host}:{port}, with the documentation at /docs; loading {model}")


def _say_what(served: "Served") -> None:
    from nuner_embed.cli.progress import note

    parts = [f"the model {served.model} ({served.encoder.runtime.description})"]
    for what, names in (("heads", served.heads), ("indexes", served.indexes)):
        parts += [f"{what} {', '.join(names)}"] if names else []
    note(f"ready: {'; '.join(parts)}")


def _say_end() -> None:
    from nuner_embed.cli.progress import note

    note("ended")
