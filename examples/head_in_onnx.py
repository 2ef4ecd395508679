"""Label the words of a text with an exported graph that holds a head; needs onnxruntime, tokenizers and numpy only.

python examples/head_in_onnx.py DIR TEXT, where DIR is what nuner-embed export MODEL -o DIR --head PROBE made
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

directory, text = Path(sys.argv[1]), sys.argv[2]
head = json.loads((directory / "head.json").read_text())
tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
tokenizer.enable_truncation(head["max_length"])
session = onnxruntime.InferenceSession(str(directory / "model.onnx"), providers=["CPUExecutionProvider"])

pieces = tokenizer.encode(text)
ids = np.array([pieces.ids])
(probabilities,) = session.run([head["output"]], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
for word in re.finditer(r"\w+(?:-\w+)*|\S", text):
    for number, (start, end) in enumerate(pieces.offsets):  # the first piece of the word has the label
        if start < word.end() and end > word.start() and pieces.tokens[number] != "▁":
            best = probabilities[0, number].argmax()
            print(f"{word[0]}\t{head['classes'][best]}\t{probabilities[0, number, best]:.3f}")
            break
