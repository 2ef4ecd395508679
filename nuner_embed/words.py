"""Words of a plain text."""

from tokenizers import Regex, pre_tokenizers

# Letters, marks, digits and joiners, with inner hyphens; any other visible character stands alone. As GLiNER
# splits, but with an engine whose \w knows combining marks (Python's does not).
_SPLITTER = pre_tokenizers.Split(
    Regex(r"[\w\x{200c}\x{200d}]+(?:-[\w\x{200c}\x{200d}]+)*|[^\s\x{1c}-\x{1f}]"), behavior="removed", invert=True
)


def split_words(text: str) -> list[tuple[int, int]]:
    """`(start, end)` of each word: runs of letters and digits, and every other visible character by itself."""
    return [offsets for _, offsets in _SPLITTER.pre_tokenize_str(text)]
