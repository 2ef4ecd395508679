"""Requests that run together get the numbers that each would get alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from fakes import HashRuntime, hash_encoder
from gated import Gated, wait_until

import nuner_embed
from nuner_embed.documents import Document, Span
from nuner_embed.errors import OutOfMemory
from nuner_embed.serving.shared_runtime import PASSES, ComputeThread, SharedRuntime

TEXTS = [f"the ferry left at seven {'in ' * (i % 50)}" for i in range(40)]


class Runs(list):
    def ran(self, run):
        self.append(run)


@pytest.fixture
def runs():
    return Runs()


@pytest.fixture
def compute(runs):
    thread = ComputeThread(runs)
    yield thread
    thread.close()


def shared(encoder, compute):
    return replace(encoder, runtime=SharedRuntime(encoder.runtime, compute))


def together(encoder, gated, texts, compute):
    """The rows of each text, all of which wait while another text is computed."""
    with ThreadPoolExecutor(len(texts) + 1) as threads:
        blocked = threads.submit(encoder.encode, "seven")
        assert gated.entered.wait(30)
        found = [threads.submit(encoder.encode, text) for text in texts]
        wait_until(lambda: len(compute._waiting) == len(texts))
        gated.gate.set()
        blocked.result()
        return [one.result()[0].vectors for one in found]


@pytest.mark.parametrize("normalize", [False, True])
def test_batches_that_wait_run_together_and_give_the_same_numbers(compute, runs, normalize):
    runtime = Gated(positional=True)
    encoder = hash_encoder(runtime=runtime, normalize=normalize)
    found = together(shared(encoder, compute), runtime, TEXTS[:20], compute)
    alone = hash_encoder(runtime=HashRuntime(positional=True), normalize=normalize)
    for text, vectors in zip(TEXTS, found, strict=False):
        assert np.array_equal(vectors, alone.encode(text)[0].vectors)
    assert runs[0].requests == 1
    assert max(run.requests for run in runs) > 5
    assert sum(run.requests for run in runs) == 21
    # every run but the first keeps to the budget
    assert all(run.tokens <= PASSES * encoder.batch_tokens for run in runs)


def test_a_batch_larger_than_the_budget_runs_alone(compute, runs):
    encoder = hash_encoder(batch_tokens=16)
    assert np.array_equal(shared(encoder, compute).encode(TEXTS)[7].vectors, encoder.encode(TEXTS)[7].vectors)
    assert [run.requests for run in runs] == [1]


def test_two_runtimes_take_turns_and_are_never_mixed(compute, runs):
    first, second = Gated(dim=4), HashRuntime(dim=6)
    encoders = [shared(hash_encoder(runtime=runtime), compute) for runtime in (first, second)]
    with ThreadPoolExecutor(12) as threads:
        blocked = threads.submit(encoders[0].encode, "seven")
        assert first.entered.wait(30)
        found = [threads.submit(encoders[i % 2].encode, TEXTS[i]) for i in range(10)]
        wait_until(lambda: len(compute._waiting) == 10)
        first.gate.set()
        blocked.result()
        widths = [one.result()[0].vectors.shape[1] for one in found]
    assert widths == [4, 6] * 5
    assert [run.requests for run in runs] in ([1, 5, 5], [1, 5, 5][::-1])


def test_one_batch_that_fails_takes_no_other_with_it(compute):
    runtime = Gated(memory=20)
    encoder = shared(hash_encoder(runtime=runtime), compute)
    with ThreadPoolExecutor(3) as threads:
        blocked = threads.submit(encoder.encode, "seven")
        assert runtime.entered.wait(30)
        long, short = (threads.submit(encoder.encode, text) for text in ("in " * 25, "at seven"))
        wait_until(lambda: len(compute._waiting) == 2)
        runtime.gate.set()
        blocked.result()
        with pytest.raises(OutOfMemory, match="one window"):
            long.result()
        assert short.result()[0].vectors.shape == (2, 8)


def test_nothing_to_compute(compute):
    assert shared(hash_encoder(), compute).encode([]) == []
    assert shared(hash_encoder(), compute).encode("")[0].vectors.shape == (0, 8)


def test_closing_answers_what_waits_and_takes_nothing_new():
    compute, runtime = ComputeThread(), Gated()
    encoder = shared(hash_encoder(runtime=runtime), compute)
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(encoder.encode, TEXTS[0])]
        assert runtime.entered.wait(30)
        found += [threads.submit(encoder.encode, text) for text in TEXTS[1:3]]
        wait_until(lambda: len(compute._waiting) == 2)
        closing = threads.submit(compute.close)
        wait_until(lambda: compute._closed)
        with pytest.raises(RuntimeError, match="has ended"):
            encoder.encode("late")
        runtime.gate.set()
        closing.result()
        assert [len(one.result()[0].vectors) > 0 for one in found] == [True] * 3


def test_a_real_network_alone_is_equal_to_the_bit_and_in_company_except_for_rounding(exported_bert, compute, runs):
    encoder = nuner_embed.load_encoder(str(exported_bert))
    serving = shared(encoder, compute)
    alone = [encoder.encode(text)[0].vectors for text in TEXTS]
    assert all(np.array_equal(serving.encode(text)[0].vectors, one) for text, one in zip(TEXTS, alone, strict=True))
    for one, other in zip(serving.encode(TEXTS), encoder.encode(TEXTS), strict=True):
        assert np.array_equal(one.vectors, other.vectors)
    runs.clear()
    for _ in range(20):
        with ThreadPoolExecutor(16) as threads:
            found = [one[0].vectors for one in threads.map(serving.encode, TEXTS)]
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        if max(run.requests for run in runs) > 1:
            break
    assert max(run.requests for run in runs) > 1


def test_mentions_and_words_go_through_the_same_thread(exported_bert, compute):
    encoder = nuner_embed.load_encoder(str(exported_bert), normalize=True)
    serving = shared(encoder, compute)
    documents = [Document("0", "the ferry left at seven", spans=(Span(4, 9), Span(4, 14)))]
    for rows in ("mention", "word"):
        expected = encoder.encode_rows(encoder.tokenize(documents, rows), rows).vectors
        found = serving.encode_rows(serving.tokenize(documents, rows), rows).vectors
        assert np.array_equal(found, expected)
