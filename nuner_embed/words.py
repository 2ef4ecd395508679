"""The words of many texts at once, as `split_words` finds them in one text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import split_words
from nuner_embed.tables import Ints

Codes = NDArray[np.uint32]

_UNKNOWN, _SPACE, _WORD, _ALONE = range(4)
_HYPHEN = ord("-")
# What each character is; a character is looked up with `split_words` when it is first seen.
_KINDS = np.full(0x110000, _UNKNOWN, np.uint8)


def code_points(texts: Sequence[str]) -> Codes:
    """The characters of some texts, joined with line feeds, (n,)."""
    return np.frombuffer("\n".join(texts).encode("utf-32-le"), np.uint32)


def word_bounds(codes: Codes) -> tuple[Ints, Ints]:
    """First characters of all words and one past their last, (m,) each.

    Args:
        codes: characters, (n,); see `code_points`.
    """
    kinds = _kinds_of(codes)
    word, alone = kinds == _WORD, kinds == _ALONE
    hyphens = np.flatnonzero(codes == _HYPHEN)
    hyphens = hyphens[(hyphens > 0) & (hyphens < len(codes) - 1)]
    inner = hyphens[word[hyphens - 1] & word[hyphens + 1]]
    word[inner], alone[inner] = True, False
    first, last = word.copy(), word.copy()
    first[1:] &= ~word[:-1]
    last[:-1] &= ~word[1:]
    return np.flatnonzero(first | alone), np.flatnonzero(last | alone) + 1


def _kinds_of(codes: Codes) -> NDArray[np.uint8]:
    kinds = _KINDS[codes]
    unknown = np.unique(codes[kinds == _UNKNOWN])
    if len(unknown):
        _learn(unknown)
        kinds = _KINDS[codes]
    return kinds


def _learn(codes: Codes) -> None:
    """Finds out what characters are: each one follows a letter, which shows whether both make one word."""
    found = set(split_words(" ".join(f"a{chr(code)}" for code in codes.tolist())))
    for place, code in enumerate(codes.tolist()):
        begin = 3 * place
        if (begin, begin + 2) in found:
            _KINDS[code] = _WORD
        else:
            _KINDS[code] = _ALONE if (begin + 1, begin + 2) in found else _SPACE
