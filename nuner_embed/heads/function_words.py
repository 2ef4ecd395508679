"""English function words and punctuation: what a detected mention neither begins nor ends with, nor consists of.

Both lists are this project's own. Which words are trimmed was decided on development parts (benchmarks/detector.py,
results/detector.md). Articles, quantifiers and prepositions of place, time and amount are not trimmed: as many right
mentions begin with them as wrong ones ("the wizard of oz", "under five dollars", "carry out"). A list knows words in
lower case alone: "The Who", "World War I", "US" and "Will Smith" stay whole.
"""

import unicodedata
from collections.abc import Sequence
from typing import Final

# Said by a detector of what it does; a store that was begun with other rules must not be gone on with.
TRIMMING: Final = "English function words and punctuation, 1"

_LINKING_WORDS = """
    of and or nor but that which who whom whose to for by with from as than so if because while is are was were be
    been being has have had
"""
_OTHER_WORDS = """
    a an the this these those one ones all any both each either every few many more most much neither no none not
    other others several some such another enough i me my mine myself you your yours yourself he him his himself she
    her hers herself it its itself we us our ours ourselves they them their theirs themselves someone anyone
    everyone something anything nothing everything about above across after against along among around at before
    behind below beneath beside besides between beyond despite during except in inside into like near off on onto
    out outside over past per since through throughout till toward towards under until up upon via within without
    yet although though whereas unless whether what when where how why here there then now very too also just only
    even still ever never again almost quite rather am do does did doing done having will would shall should can
    could may might must ought 's 're 've 'll 'd 'm n't ’s ’re ’ve ’ll ’d ’m n’t thank thanks please hello hi yes ok
    okay oh
"""
_LINKING: Final = frozenset(_LINKING_WORDS.split())
_FUNCTION_WORDS: Final = _LINKING | frozenset(_OTHER_WORDS.split())
_PUNCTUATION: Final = frozenset("\"'`´“”‘’«»‹›„‚,;:-–—−/\\|_&()[]{}<>")
_CLOSING: Final = {")": "(", "]": "[", "}": "{", ">": "<"}
_OPENING: Final = {opening: closing for closing, opening in _CLOSING.items()}
_APOSTROPHES: Final = "'’"
_POSSESSIVE: Final = frozenset(mark + "s" for mark in _APOSTROPHES)


def trim(words: Sequence[str], *, begins_text: bool) -> tuple[int, int]:
    """Which words of a mention are left when function words and punctuation are taken off both ends.

    Args:
        words: of the mention, in order.
        begins_text: the first one begins its text, where a function word has a capital letter.

    Returns:
        First word and one past the last; equal where nothing but function words and punctuation is there.
    """
    first, last = 0, len(words)
    while first < last and _begins_nothing(words[first:last]):
        first += 1
    while first < last and _ends_nothing(words[first:last]):
        last -= 1
    initial = 1 if begins_text and first == 0 else 0
    if all(_says_nothing(word.lower() if i < initial else word) for i, word in enumerate(words[first:last])):
        return first, first
    return first, last


def _begins_nothing(words: Sequence[str]) -> bool:
    word = words[0]
    if word in _OPENING and _OPENING[word] in words:  # "(S)-warfarin"
        return False
    return word in _LINKING or word in _PUNCTUATION


def _ends_nothing(words: Sequence[str]) -> bool:
    word = words[-1]
    if word in _CLOSING and _CLOSING[word] in words:
        return False
    if word == "s" and len(words) > 2 and words[-2] in _APOSTROPHES:  # "Oslo's", as plain text is split
        return True
    return word in _LINKING or word in _PUNCTUATION or (word in _POSSESSIVE and len(words) > 1)


def _says_nothing(word: str) -> bool:
    return word in _FUNCTION_WORDS or all(unicodedata.category(character)[0] == "P" for character in word)
