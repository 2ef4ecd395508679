"""Folders in a text encoder's directory for what belongs to it."""

from typing import Final

CONCEPT_FOLDER: Final = "concept_encoder"  # the other half of the bi-encoder, a model of its own
DETECTOR_FOLDER: Final = "detector"  # a probe that finds mentions
COMPANIONS: Final = (CONCEPT_FOLDER, DETECTOR_FOLDER)
