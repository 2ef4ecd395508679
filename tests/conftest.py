import pytest
from fakes import TOKENIZERS
from hypothesis import HealthCheck, settings

from nuner_embed.models import TextTokenizer

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture(scope="session", params=list(TOKENIZERS))
def any_tokenizer(request: pytest.FixtureRequest) -> TextTokenizer:
    """WordPiece, byte-level BPE with and without prefix space, Unigram with and without splitting first."""
    tokenizer: TextTokenizer = TOKENIZERS[request.param]()
    return tokenizer
