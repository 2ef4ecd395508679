"""With many examples, names of types cost nothing: measured on a development part of a real set."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SHARED_DATA

from nuner_embed import FewShotProtocol, load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.evaluation.fewshot import TypedSet, measure, needed, plan
from nuner_embed.heads import NAMED_C
from nuner_embed.heads.features import FeatureCache
from nuner_embed.heads.names import NamedTypes, names_of


@pytest.mark.slow
def test_the_probe_is_not_worse_than_without_names(tmp_path, default_model):
    path = SHARED_DATA / "typed" / "bionlp2004" / "train.tsv"
    if not path.exists():
        pytest.skip(f"{path.name} of BioNLP 2004 is not there: the data sets do not come with the repository")
    documents = read_annotated([path], "conll")[0]
    typed = TypedSet("BioNLP 2004", documents[500:], documents[:500], "0" * 64)
    cache = FeatureCache(tmp_path, load_encoder(str(default_model)))
    held = cache.features(typed.test)
    named = NamedTypes(names_of(typed.types), ConceptEncoder.open(str(default_model)))
    assert set(named.names) == set(typed.types)
    scores = {}
    for k, draws in ((1, 4), (64, 2)):
        protocol = FewShotProtocol((k,), draws, short_types="drop")  # of RNA there are fewer than 64
        sets = plan(typed, protocol)
        features = cache.features([typed.train[i] for i in needed(sets)])
        (plain,) = measure("plain", typed, sets, protocol, features, held)
        (beside,) = measure("names", typed, sets, replace(protocol, C=NAMED_C), features, held, named=named)
        scores[k] = 100 * (np.mean(beside.scores) - np.mean(plain.scores))
    assert scores[64] > -0.5
    assert scores[1] > 5
