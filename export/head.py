"""A linear head in the graph of its encoder: a second output, and the file that says how to read the output."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from nuner_embed.documents import Document, split_words
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ExportError
from nuner_embed.export.onnx_file import save_graph
from nuner_embed.files import write_json
from nuner_embed.heads.base import Head
from nuner_embed.heads.features import embed_words
from nuner_embed.heads.linear import LinearHead
from nuner_embed.models.onnx_export import HEAD_FILE
from nuner_embed.models.recipe import Recipe, semantic_hash
from nuner_embed.models.resolver import TransformersModel
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.graph_ports import OUTPUTS
from nuner_embed.runtimes.onnx import open_session
from nuner_embed.tags import OUTSIDE

PROBABILITIES: Final = "probabilities"
SCHEMA_VERSION: Final = 1
MARGIN: Final = 1e-3  # rounding in 32 bits turns labels whose probabilities are closer than this
_NEVER: Final = -1e9  # the score of a class that the head has not: its probability is 0
_SHORTEST: Final = 1e-12  # as `encoders.text.unit` has it
_AT_MOST_TOKENS: Final = 2000
_BLANK: Final = "▁"  # a piece of SentencePiece that is no part of a word


@dataclass(frozen=True, slots=True)
class HeadAgreement:
    """The labels of words that the graph gives, compared with those of the head in Python.

    Attributes:
        words: number of compared words.
        differing: words whose labels differ.
        beyond_margin: of those, words whose two labels are more than 0.001 apart in probability.
        max_difference: largest difference of a probability.
    """

    words: int
    differing: int
    beyond_margin: int
    max_difference: float

    def __str__(self) -> str:
        return (
            f"{self.differing} of {self.words} words with another label, probabilities within {self.max_difference:.1e}"
        )


def require_exportable(head: Head, found: TransformersModel, recipe: Recipe, precision: str) -> LinearHead:
    """Checks that a head can be written into the graph of a model.

    Args:
        head: of any kind.
        found: the model.
        recipe: of the export.
        precision: of the export.

    Raises:
        ExportError: the head is no linear head, reads another encoder, or does not read one layer at the first piece
            of each word; or the precision is not fp32.
    """
    if precision != "fp32":
        raise ExportError(f"a head is exported in fp32 only, not in {precision}; leave out --precision or --head")
    if not isinstance(head, LinearHead):
        raise ExportError(
            "this head first finds mentions and then types them; only a linear head, as probe train makes, can be "
            "written into the graph"
        )
    tokenizer = TextTokenizer.from_directory(found.directory)
    own = Recipe.from_dict(head.facts.recipe)
    there = semantic_hash(found.weights_sha256, found.config.sha256, tokenizer.sha256, own.to_dict())
    if there != head.semantic_hash:
        raise ExportError(
            f"this head was made for {head.facts.model} ({head.semantic_hash[:12]}), not for {found.name} "
            f"({there[:12]}); train a probe with --model {found.name}"
        )
    if len(own.layers) != 1 or own.layers != recipe.layers:
        raise ExportError(
            f"the head reads the layers {list(own.layers)} and the export has {list(recipe.layers)}; a head is "
            "exported if both have the same single layer"
        )
    if own.pooling != "first":
        raise ExportError(f"the head reads a word at its {own.pooling} pieces; only first pieces can be exported")
    return head


def append_head(path: Path, head: LinearHead) -> None:
    """Adds the output `probabilities` (batch, length, 1 + types) to a graph, in place; column 0 is no type."""
    columns = 1 + len(head.types)
    coef = np.zeros((head.weights.coef.shape[1], columns), np.float32)
    intercept = np.full(columns, _NEVER, np.float32)
    coef[:, head.weights.classes] = head.weights.coef.T
    intercept[head.weights.classes] = head.weights.intercept
    model = onnx.load(path)
    graph, vectors = model.graph, OUTPUTS[0]
    arrays = {"head.coef": coef, "head.intercept": intercept}
    if Recipe.from_dict(head.facts.recipe).normalize:
        arrays["head.shortest"] = np.array(_SHORTEST, np.float32)
        graph.node.extend([
            helper.make_node("ReduceL2", [vectors], ["head.norms"], name="head.norms", axes=[-1], keepdims=1),
            helper.make_node("Max", ["head.norms", "head.shortest"], ["head.lengths"], name="head.lengths"),
            helper.make_node("Div", [vectors, "head.lengths"], ["head.vectors"], name="head.vectors"),
        ])  # fmt: skip
        vectors = "head.vectors"
    graph.node.extend([
        helper.make_node("MatMul", [vectors, "head.coef"], ["head.products"], name="head.products"),
        helper.make_node("Add", ["head.products", "head.intercept"], ["head.scores"], name="head.scores"),
        helper.make_node("Softmax", ["head.scores"], [PROBABILITIES], name="head.softmax", axis=-1),
    ])  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    shape = ["batch", "length", columns]
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, shape))
    save_graph(model, path)


def write_head(directory: Path, head: LinearHead, agreement: HeadAgreement) -> None:
    """Writes `head.json`, which says how to read the output `probabilities`."""
    recipe = Recipe.from_dict(head.facts.recipe)
    values = {
        "schema_version": SCHEMA_VERSION,
        "output": PROBABILITIES,
        "classes": [OUTSIDE, *head.types],
        "threshold": head.threshold,
        "pooling": recipe.pooling,
        "max_length": recipe.max_length,
        "compared": asdict(agreement),
    }
    write_json(directory / HEAD_FILE, values)


def compare_head(graph: Path, head: LinearHead, encoder: TextEncoder, texts: Sequence[str]) -> HeadAgreement:
    """Compares the labels of words, by the graph in ONNX Runtime and by the head in Python.

    Args:
        graph: with the output `probabilities`, beside the `tokenizer.json` of the export.
        head: the head.
        encoder: the source in torch, with the recipe of the head.
        texts: about 2,000 tokens of them are compared; a text longer than one window is halved until the window
            holds the text.

    Raises:
        ExportError: a label differs by more than the margin, or no word was compared.
    """
    session = open_session(graph, "cpu", 1)
    tokenizer = Tokenizer.from_file(str(graph.parent / "tokenizer.json"))
    words = differing = beyond = tokens = 0
    largest = 0.0
    for text in texts:
        encoding = tokenizer.encode(text)
        while len(encoding.ids) > encoder.recipe.max_length:
            text = text[: len(text) // 2]  # a text longer than one window is cut
            encoding = tokenizer.encode(text)
        features = embed_words(encoder, [Document("", text)])
        found = _probabilities_of_words(session, encoding, text)
        expected = np.zeros((len(features.start), 1 + len(head.types)), np.float32)
        expected[:, head.weights.classes] = head.weights.probabilities(features.vectors)
        if found.shape != expected.shape:
            raise ExportError(
                f"the tokenizer's pieces give {len(found)} words outside the package, {len(expected)} inside; a head "
                "cannot be exported with this tokenizer"
            )
        rows, labels, others = np.arange(len(expected)), head.label(features), found.argmax(axis=1)
        words += len(labels)
        differing += int(np.count_nonzero(labels != others))
        beyond += int(np.count_nonzero(expected[rows, labels] - expected[rows, others] > MARGIN))
        largest = max(largest, float(np.abs(found - expected).max(initial=0)))
        tokens += len(encoding.ids)
        if tokens >= _AT_MOST_TOKENS:
            break
    agreement = HeadAgreement(words, differing, beyond, largest)
    if beyond or not words:
        raise ExportError(
            f"the head in the graph does not label as the head in Python: {agreement}; nothing was written"
        )
    return agreement


def _probabilities_of_words(session: Any, encoding: Any, text: str) -> NDArray[np.float32]:
    """The probabilities at the first piece of each word of a text, (words, 1 + types), as a reader of head.json gets.

    Words without a piece are left out.
    """
    ids = np.array([encoding.ids], np.int64)
    (found,) = session.run([PROBABILITIES], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    pieces = [
        (number, start, end)
        for number, (start, end) in enumerate(encoding.offsets)
        if not encoding.special_tokens_mask[number] and encoding.tokens[number] != _BLANK
    ]
    first = [
        next((number for number, start, end in pieces if start < stop and end > begin), None)
        for begin, stop in split_words(text)
    ]
    probabilities: NDArray[np.float32] = found[0, [number for number in first if number is not None]]
    return probabilities
