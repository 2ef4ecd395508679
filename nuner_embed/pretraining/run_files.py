"""What a pre-training run's directory may consist of, and by which files it is known.

training/run.json   the mark of a run that was begun; the folder goes when the model is in its place
pretrain.json       the facts of a finished model, beside its files
"""

from typing import Final

from nuner_embed.artifacts import Kind
from nuner_embed.errors import PretrainingError
from nuner_embed.models.companions import CONCEPT_FOLDER
from nuner_embed.models.directories import TOKENIZER_FILES
from nuner_embed.pretraining.facts import CARD, FACTS_FILE, RUN_FILE, TRAINING_FOLDER, read_begun, read_model

STATE_FILE: Final = "state.safetensors"
METRICS_FILE: Final = "metrics.csv"
CURVE_FILE: Final = "curve.png"
LOCK_FILE: Final = ".lock"
# folders in the run's: see `placing`
RESULT: Final = "result"
FINISHED: Final = "finished"
REPLACED: Final = "replaced"
PLACING: Final = "placing"

_TEMPORARY = ".*." + "[0-9a-f]" * 16 + ".tmp"
_ENCODER = (
    "config.json", "recipe.json", CARD, "model.safetensors", "model-*.safetensors", "model.safetensors.index.json",
    "concepts.json", _TEMPORARY, *TOKENIZER_FILES,
)  # fmt: skip
_MADE = (*_ENCODER, FACTS_FILE, METRICS_FILE, CURVE_FILE, *(f"{CONCEPT_FOLDER}/{name}" for name in _ENCODER))
_KEPT = (
    RUN_FILE, LOCK_FILE, STATE_FILE, METRICS_FILE, "texts.npy", "texts.json", "concepts.npy", "concepts.json",
    ".*.tmp", *(f"{folder}/{name}" for folder in (RESULT, FINISHED, PLACING, REPLACED) for name in _MADE),
)  # fmt: skip
_TRAINING = tuple(f"{TRAINING_FOLDER}/{name}" for name in _KEPT)

RUN: Final = Kind(
    "a pre-training run", f"{TRAINING_FOLDER}/{RUN_FILE}", read_begun, _TRAINING, PretrainingError, PretrainingError
)
MODEL: Final = Kind(
    "a finished model", FACTS_FILE, read_model, (*_MADE, *_TRAINING), PretrainingError, PretrainingError
)
# a run with a model beside it: the former one, or its own while the files take their places
RUN_AND_MODEL: Final = Kind(RUN.name, RUN.marker, read_begun, (FACTS_FILE, *MODEL.files), RUN.error, RUN.locked)
