"""The directory of a model: what may lie in it, and how a new one takes its name."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nuner_embed.errors import ModelError
from nuner_embed.files import sync_folder
from nuner_embed.models.exported import RECIPE_FILE
from nuner_embed.models.layout import COMPANIONS

CARD_FILE = "README.md"
# The files that a tokenizer of the Hugging Face library may be made from where it has no tokenizer.json; those
# that belong to one of them and say nothing alone come after.
VOCABULARY_FILES = (
    "vocab.txt", "vocab.json", "spm.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model",
    "tokenizer.model", "spm_char.model", "tiktoken.model", "dict.txt", "prophetnet.tokenizer",
)  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", *VOCABULARY_FILES,
    "merges.txt", "bpe.codes", "vocab.bpe", "vocab-src.json", "vocab-tgt.json", "entity_vocab.json", "byte_maps.json",
    "word_shape.json", "word_pronunciation.json", "emoji.json", "chat_template.jinja",
)  # fmt: skip

_FILES = frozenset({"config.json", RECIPE_FILE, CARD_FILE, *COMPANIONS, *TOKENIZER_FILES})


def _require_free(directory: Path, force: bool) -> None:
    """Checks that nothing is lost if the directory is replaced, but a model of the same kind.

    Raises:
        ModelError: something would be.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ModelError(f"{directory} is a file; name a directory for the model")
    if Path.cwd().is_relative_to(directory):
        raise ModelError(f"{directory} is the folder that this runs in; name another directory for the model")
    names = [path.name for path in directory.iterdir()]
    foreign = sorted(
        name for name in names if name not in _FILES and not name.endswith((".safetensors", ".bin", ".index.json"))
    )
    if foreign:
        raise ModelError(f"{directory} holds something else ({foreign[0]}); name another directory for the model")
    if names and not force:
        raise ModelError(f"{directory} holds a model; name another directory, or replace it with --force")


@contextlib.contextmanager
def new_directory(directory: Path, *, force: bool = False) -> Iterator[Path]:
    """A directory to fill with a model, which takes its name only if the block ends without an error.

    Raises:
        ModelError: something of that name is there, unless it is a model and `force` replaces it.
    """
    directory = directory.resolve()
    _require_free(directory, force)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp lets nobody else in
        if directory.exists():
            shutil.rmtree(directory)
        temporary.replace(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(directory.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
