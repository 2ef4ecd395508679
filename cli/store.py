"""`nuner-embed store`."""

import sys
from pathlib import Path
from typing import Any

import click

from nuner_embed.cli.options import counted, json_option, print_facts, print_json, size
from nuner_embed.cli.streams import say

_store_argument = click.argument("store", type=click.Path(path_type=Path))


@click.group(epilog="Example: nuner-embed store info store")
def store() -> None:
    """Show what a store holds, and check its files."""


@store.command(epilog="Example: nuner-embed store info store --json")
@_store_argument
@json_option
def info(store: Path, as_json: bool) -> None:
    """Show what STORE holds and which encoder made the store."""
    from nuner_embed.store.reader import Store

    opened = Store.open(store, allow_incomplete=True)
    weight = sum(sum(shard.bytes.values()) for shard in opened.shards)
    facts: dict[str, Any] = {
        "path": str(opened.path),
        "complete": opened.complete,
        "documents": opened.documents,
        "rows": len(opened),
        "granularity": opened.granularity,
        "dim": opened.dim,
        "dtype": opened.dtype,
        "shards": len(opened.shards),
        "bytes": weight,
        "rejects": opened.manifest["rejects"],
        "reduced_shards": opened.manifest["reduced_shards"],
        "recipe": opened.manifest["recipe"],
        "numerics": opened.manifest["numerics"],
        "semantic_hash": opened.semantic_hash,
        "numeric_hash": opened.numeric_hash,
    }
    if as_json:
        print_json(facts)
        return
    shown = {**facts, "bytes": size(weight), "path": opened.path}
    for name in ("recipe", "numerics"):
        shown[name] = ", ".join(f"{key} {value}" for key, value in facts[name].items() if key != "file")
    print_facts({key: value for key, value in shown.items() if value not in ([], 0) or key in ("documents", "rows")})
    if not opened.complete:
        say("unfinished: the same nuner-embed encode command finishes the store")


@store.command(epilog="Example: nuner-embed store verify store")
@_store_argument
@json_option
def verify(store: Path, as_json: bool) -> None:
    """Check the files of STORE; the exit code is 1 if a file is damaged."""
    from nuner_embed.store.reader import Store

    opened = Store.open(store, allow_incomplete=True, check_files=False)
    problems, unchecked = opened.verify(), opened.unchecked()
    if as_json:
        shards = len(opened.shards)
        print_json({"passed": not problems, "shards": shards, "problems": problems, "unchecked": unchecked})
    for line in (*problems, *(f"not checked: {one}" for one in unchecked)):
        say(f"{store}: {line}")
    if problems:
        say("encode the corpus again with --force")
        sys.exit(1)
    unfinished = "" if opened.complete else "; unfinished: the same nuner-embed encode command finishes the store"
    say(f"{store}: {counted(len(opened.shards), 'shard')} read, all intact{unfinished}")
