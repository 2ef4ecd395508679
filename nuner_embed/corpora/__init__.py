"""Reading corpora: one file a format, one policy for bad records."""

from nuner_embed.corpora.corpus import Corpus, Survey
from nuner_embed.corpora.listing import FORMATS
from nuner_embed.corpora.records import Reject

__all__ = ["FORMATS", "Corpus", "Reject", "Survey"]
