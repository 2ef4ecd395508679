import logging

import pytest
from fakes import tiny_model
from transformers.utils import logging as transformers_logging

from nuner_embed import Document, export_onnx, load_encoder
from nuner_embed.models.resolver import locate
from nuner_embed.pretraining.parts import save_network
from nuner_embed.runtimes.torch import load_network, quiet_transformers


def test_loading_saving_and_exporting_print_nothing(tmp_path, capfd):
    base = locate(str(tiny_model("bert", tmp_path / "bert")))
    capfd.readouterr()
    load_encoder(str(tmp_path / "bert"), runtime="torch").encode([Document("a", "the ferry left at seven")])
    save_network(base, load_network(base), tmp_path / "saved")
    export_onnx(str(tmp_path / "bert"), tmp_path / "exported")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bars", [True, False])
def test_it_leaves_the_log_and_the_progress_bars_as_they_were(monkeypatch, bars):
    log = logging.getLogger("transformers")
    level = log.level
    monkeypatch.setattr(transformers_logging, "_tqdm_active", bars)

    def fail():
        with quiet_transformers():
            assert not transformers_logging.is_progress_bar_enabled()
            raise OSError("in between")

    with pytest.raises(OSError, match="in between"):
        fail()
    assert transformers_logging.is_progress_bar_enabled() is bars
    assert log.level == level
