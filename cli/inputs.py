"""What a command reads is never what it writes."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import expand, same_file

_READ = "nuner_embed.read"  # in a command's `meta`: files that its options were read from


def note_read(context: click.Context, path: Path) -> None:
    """Remembers a file that an option's value was read from, for `require_apart`."""
    context.meta.setdefault(_READ, []).append(path)


def require_apart(outputs: Path | Iterable[Path] | None, inputs: Iterable[Any], *, folder: bool = False) -> None:
    """Refuses outputs that are inputs, by whatever name, link or hard link; call it before anything is written.

    A file may not lie within a directory that is read either, nor what is read within a directory that is written.

    Args:
        outputs: files or directories that the command writes.
        inputs: what it reads: files, directories, "-" for standard input, or names of models; None for nothing.
        folder: whether a directory is written; that one may lie within a directory that is read.

    Raises:
        NunerEmbedError: naming both.
    """
    written = [outputs] if isinstance(outputs, Path) else list(outputs or ())
    context = click.get_current_context(silent=True)
    read = list(_existing([*inputs, *(context.meta.get(_READ, ()) if context else ())]))
    for output in map(expand, written):
        for given, path in read:
            if same_file(output, path):
                raise NunerEmbedError(
                    f"{output} is read, as {given}, and would be written too; name another output"
                    if str(output) != given
                    else f"{output} is read, and would be written too; name another output"
                )
            if not folder and path.is_dir() and _lies_in(output, path):
                raise NunerEmbedError(
                    f"{output} would lie in {given}, which is read; name an output outside of that directory"
                )
            if folder and _lies_in(path, output):
                raise NunerEmbedError(
                    f"{given} is read, and lies in {output}, which would be written; name another output"
                )


def _existing(inputs: Iterable[Any]) -> Iterator[tuple[str, Path]]:
    for given in inputs:
        if given is None:
            continue
        path = Path("/dev/stdin") if str(given) == "-" else expand(given)
        try:
            path.stat()
        except (OSError, ValueError):  # a model's name, or what the command itself will complain about
            continue
        yield str(given), path


def _lies_in(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))
