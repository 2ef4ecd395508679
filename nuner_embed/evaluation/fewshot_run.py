"""A few-shot run over models and sets that can be interrupted and continued."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nuner_embed.arguments import Progress, as_names, silent
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.evaluation.comparison import AVERAGE, SetFacts, results, table
from nuner_embed.evaluation.fewshot import Cell, Draws, FewShotProtocol, TypedSet, key_of, measure, needed, plan
from nuner_embed.evaluation.results_folder import (
    FIGURE_FILE,
    RESULTS_FILE,
    TABLE_FILE,
    Folder,
    opened,
    read_part,
    write_part,
)
from nuner_embed.files import expand, hash_of
from nuner_embed.heads.features import FeatureCache, feature_folder
from nuner_embed.heads.labelled_words import WordLabels
from nuner_embed.installation import install_command
from nuner_embed.machine import threads_for


def read_set(name: str, train: str | Path, test: str | Path, *, format: str | None = None, **reading: Any) -> TypedSet:
    """Reads a set's two parts.

    Args:
        name: of the set.
        train, test: annotated corpora.
        format: of both, in place of their suffixes.
        reading: further options of `Corpus`, such as `tag_names`.

    Raises:
        CorpusError: a part cannot be read.
        ProbeError: a part holds no annotated mention.
    """
    (learnt, learnt_sha256), (asked, asked_sha256) = (read_annotated(part, format, **reading) for part in (train, test))
    return TypedSet(name, learnt, asked, hash_of([learnt_sha256, asked_sha256]))


def wrong_names(what: str, names: Sequence[str]) -> str | None:
    """What is wrong with the names of models or sets, as tables show them; None if nothing is."""
    if len(set(names)) != len(names):
        return f"each {what} must have a name of its own: {', '.join(names)}"
    for name in names:
        if name == AVERAGE or "|" in name or not name.isprintable():
            return f"a {what} cannot be called {name!r}: tables have {AVERAGE!r}, | and line ends for themselves"
    return None


def evaluate_fewshot(
    models: str | Mapping[str, str] | Sequence[str],
    sets: Sequence[TypedSet],
    output: str | Path,
    protocol: FewShotProtocol | None = None,
    *,
    threads: int = 0,
    cache: Path | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measures models on sets as section 4.1 of the paper does; called again, it does what is not done yet.

    Args:
        models: names or directories, as `load_encoder` takes them; or such by the names that the tables are to show.
        sets: see `read_set`.
        output: directory for `results.json`, `table.md` and, where matplotlib is installed, `figure.png`.
        protocol: what is measured.
        threads: of the encoder, and probes fitted at a time; 0 for one a core.
        cache: folder of the word embeddings; None for the user's cache folder.
        progress: is told `(what, done, total)`.
        note: is told what people should know.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError: a name twice, or one that tables cannot show.
        ProbeError: the directory holds something else, or another process writes there.
        NunerEmbedError: a model, set or feature that cannot be read.
    """
    protocol = protocol or FewShotProtocol()
    named = _named(models, sets)
    plans = [(typed, plan(typed, protocol)) for typed in sets]
    for typed, draws in plans:
        for size in draws:
            if size.blank:
                note(f"{typed.name}, k = {size.k}: {size.blank}; the cell stays blank")
    cells: list[Cell] = []
    lost: dict[str, int] = {}
    with opened(expand(output)) as folder:
        for model, place in named.items():
            encoder = load_encoder(place, threads=threads)
            features = FeatureCache(cache or feature_folder(), encoder)
            for typed, draws in plans:
                path = folder.part(key_of(typed, protocol, (encoder.semantic_hash, encoder.numeric_hash)))
                part = _read_part(path, model, typed, protocol)
                if part is None:
                    measured = _measured(model, typed, draws, protocol, features, threads or threads_for(1), progress)
                    write_part(path, *measured)
                    part = _read_part(path, model, typed, protocol)
                assert part is not None
                cells += part[0]
                lost[typed.name] = part[1]
        return _write_results(folder, cells, lost, sets, protocol, note)


def _named(models: str | Mapping[str, str] | Sequence[str], sets: Sequence[TypedSet]) -> Mapping[str, str]:
    """The models by the names that the tables show.

    Raises:
        ValueError: two models or sets have the same name, or tables cannot show a name.
    """
    names = as_names(models)
    for what, given in (("model", names), ("set", [typed.name for typed in sets])):
        problem = wrong_names(what, given)
        if problem:
            raise ValueError(problem)
    return models if isinstance(models, Mapping) else dict(zip(names, names, strict=True))


def _write_results(
    folder: Folder,
    cells: Sequence[Cell],
    lost: Mapping[str, int],
    sets: Sequence[TypedSet],
    protocol: FewShotProtocol,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Writes the results, the table and, if possible, the figure; returns what `results.json` holds.

    Args:
        folder: the directory of the run.
        cells: all measurements.
        lost: the number of test mentions of each set that hold no word or overlap an earlier one, by the set's name.
        sets: the sets that were measured.
        protocol: what was measured.
        note: is told why there is no figure.
    """
    facts = [
        SetFacts(typed.name, len(typed.train), len(typed.test), len(typed.types), typed.repeated(), lost[typed.name])
        for typed in sets
    ]
    found = results(cells, facts, protocol)
    folder.write(RESULTS_FILE, (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode())
    folder.write(TABLE_FILE, table(cells, facts, protocol).encode())
    drawing = _drawn(cells, note)
    if drawing is not None:
        folder.write(FIGURE_FILE, drawing)
    return found


def _read_part(path: Path, model: str, typed: TypedSet, protocol: FewShotProtocol) -> tuple[list[Cell], int] | None:
    """The cells of a part that was measured before, and how many test mentions it lost; None if a cell is missing."""
    part = read_part(path)
    if part is None or [cell.k for cell in part[0]] != list(protocol.k):
        return None
    cells = [replace(cell, model=model, set=typed.name) for cell in part[0]]
    whole = all(
        len(scores) in (0, protocol.draws) and all(0 <= score <= 1 for score in scores)
        for cell in cells
        for scores in (cell.scores, *cell.others.values())
    )
    return (cells, part[1]) if whole else None


def _measured(
    model: str,
    typed: TypedSet,
    draws: Sequence[Draws],
    protocol: FewShotProtocol,
    cache: FeatureCache,
    threads: int,
    progress: Progress,
) -> tuple[list[Cell], int]:
    def encode(documents: Sequence[Document], part: str) -> WordFeatures:
        return cache.features(
            documents, lambda what, done, total: progress(f"{model}, {typed.name}: {what} the {part} part", done, total)
        )

    train = encode([typed.train[i] for i in needed(draws)], "training")
    test = encode(typed.test, "test")
    total, done = sum(len(size.sets) for size in draws), 0

    def fitted(probes: int) -> None:
        nonlocal done
        done += probes
        progress(f"{model}, {typed.name}: probes", done, total)

    cells = measure(model, typed, draws, protocol, train, test, threads=threads, progress=fitted)
    return cells, WordLabels.of(typed.test, test, typed.types).lost


def _drawn(cells: Sequence[Cell], note: Callable[[str], None]) -> bytes | None:
    from nuner_embed.evaluation.comparison import figure

    try:
        return figure(cells)
    except ImportError:
        note(f"no {FIGURE_FILE}: it needs matplotlib ({install_command('plots')}); run again, nothing is lost")
    except OSError as error:  # matplotlib finds no place for its own files
        note(f"no {FIGURE_FILE}: {error}; run again, nothing is lost")
    return None
