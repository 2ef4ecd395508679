"""The annotate job, which makes an annotated corpus with an LLM, and an estimate of its cost."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nuner_embed.annotation.alignment import Occurrences
from nuner_embed.annotation.client import Asker
from nuner_embed.annotation.instruction import Instruction
from nuner_embed.annotation.ledger import KeptReply, Ledger, open_ledger, read_ledger
from nuner_embed.annotation.replies import Reply, annotated, require_other_files, write_annotated
from nuner_embed.annotation.report import REPLIES_SUFFIX, AnnotationReport, beside
from nuner_embed.annotation.server import LLMServer
from nuner_embed.arguments import Progress, silent
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document

# Rough, for English: a token of OpenAI's tokenizers has about four characters.
CHARACTERS_A_TOKEN = 4
# The 18,740 replies of our data set have 1.5 characters for each character of text, without descriptions, which about
# double that.
REPLY_CHARACTERS_A_CHARACTER = 3.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of the requests that a job needs.

    Attributes:
        texts: number of different texts in the corpus.
        kept: number of these texts whose reply is kept already.
        prompt_tokens: of the remaining requests, instruction included; a rough estimate.
        completion_tokens: of their replies; an even rougher estimate.
        cost: in the currency of the prices; None without prices.
    """

    texts: int
    kept: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None

    @classmethod
    def of(
        cls, texts: int, kept: int, left_characters: int, instruction: str, prices: tuple[float, float] | None
    ) -> "Estimate":
        """Estimates from counts.

        Args:
            texts: number of different texts in the corpus.
            kept: number of these texts with a kept reply.
            left_characters: characters of the other texts.
            instruction: the wording of the instruction.
            prices: of a million prompt tokens and of a million completion tokens.
        """
        left = texts - kept
        prompt = round((left_characters + left * len(instruction)) / CHARACTERS_A_TOKEN)
        completion = round(left_characters * REPLY_CHARACTERS_A_CHARACTER / CHARACTERS_A_TOKEN)
        cost = None if prices is None else (prompt * prices[0] + completion * prices[1]) / 1e6
        return cls(texts, kept, prompt, completion, cost)


@dataclass(frozen=True, slots=True)
class Asking:
    """The outcome of asking a server.

    Attributes:
        texts: number of different texts in the corpus.
        kept: texts answered before this run.
        answered: texts answered in this run.
        requests: requests sent in this run.
        failures: texts without a reply after all tries, by the last reason.
        stopped: why the run ended before the last text, or None.
        served_by: models that the server named in its answers.
        prompt_tokens: of all kept replies in the file, by the server's count.
        completion_tokens: of all kept replies in the file, by the server's count.
    """

    texts: int
    kept: int
    answered: int
    requests: int
    failures: dict[str, int]
    stopped: str | None
    served_by: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int

    @property
    def unanswered(self) -> int:
        """Texts that still have no reply."""
        return self.texts - self.kept - self.answered


def annotate(
    corpus: Corpus,
    output: str | os.PathLike[str],
    server: LLMServer,
    *,
    instruction: Instruction | None = None,
    occurrences: Occurrences = "all",
    max_requests: int | None = None,
    progress: Progress = silent,
) -> tuple[AnnotationReport, Asking]:
    """Asks an LLM about every text of a corpus and writes what it finds as an annotated corpus.

    Replies are kept beside the output, by text, instruction and model: no request is paid for twice.

    Args:
        corpus: a document is asked about as a whole; the paper's are sentences.
        output: a `.jsonl` or `.jsonl.gz` file.
        server: the server to ask.
        instruction: the built-in one by default.
        occurrences: which matches of an entity in its text are annotated.
        max_requests: HTTP requests in this run, retries included.
        progress: is told `(what, done, total)`.

    Raises:
        AnnotationError: the server cannot be asked, or stops answering; replies so far are kept and written. Or the
            output is a file of the corpus.
        CorpusError: a bad record.
    """
    output = Path(output)
    kept = beside(output, REPLIES_SUFFIX)
    require_other_files([output, kept], [file.path for file in corpus.files])
    instruction = instruction or Instruction.open_ended()
    report = AnnotationReport()

    def key_of(text: str) -> str:
        return instruction.key(text, server.llm, server.temperature, server.options)

    with open_ledger(kept) as ledger:
        asker = Asker(server, instruction, max_requests, proven=server.llm in ledger.models)

        def write() -> None:
            if len(ledger):
                replies = _replies((item for item in corpus if isinstance(item, Document)), ledger, key_of)
                write_annotated(output, annotated(replies, report, occurrences=occurrences))

        try:
            asking = _ask(corpus, ledger, asker, key_of, progress)
        except BaseException:  # whatever the error: replies that were paid for are written
            with contextlib.suppress(OSError):  # the first error, which may be a full disk, is the one to report
                write()
            raise
        write()
    return report, asking


def _ask(corpus: Corpus, ledger: Ledger, asker: Asker, key_of: Callable[[str], str], progress: Progress) -> Asking:
    documents = corpus.survey().documents
    served_by: set[str] = set()
    seen: set[str] = set()
    kept = done = 0

    def unanswered() -> Iterator[tuple[str, str]]:
        nonlocal kept, done
        for item in corpus:
            if not isinstance(item, Document):
                continue
            key = key_of(item.text)
            if key in seen:
                done += 1
            elif key in ledger:
                seen.add(key)
                kept, done = kept + 1, done + 1
            else:
                seen.add(key)
                yield key, item.text

    def keep(reply: KeptReply) -> None:
        nonlocal done
        ledger.add(reply)
        served_by.add(reply.served_by)
        done += 1
        progress("asking", done, documents)

    texts = unanswered()
    asker.ask(texts, keep)
    for _ in texts:  # counts the texts after a limit of requests too
        pass
    return Asking(
        texts=len(seen),
        kept=kept,
        answered=asker.answered,
        requests=asker.requests,
        failures=dict(asker.failures),
        stopped=asker.stopped,
        served_by=tuple(sorted(served_by)),
        prompt_tokens=ledger.prompt_tokens,
        completion_tokens=ledger.completion_tokens,
    )


def _replies(documents: Iterable[Document], ledger: Ledger, key_of: Callable[[str], str]) -> Iterator[Reply]:
    for document in documents:
        key = key_of(document.text)
        if key in ledger:
            yield ledger.reply(key, document.id)


def estimate(
    corpus: Corpus,
    output: Path,
    server: LLMServer,
    instruction: Instruction,
    prices: tuple[float, float] | None = None,
) -> Estimate:
    """What `annotate` would ask, without asking; nothing is written.

    Raises:
        CorpusError: a bad record.
        AnnotationError: the kept replies cannot be read.
    """
    seen: set[str] = set()
    kept = characters = 0
    with read_ledger(beside(output, REPLIES_SUFFIX)) as ledger:
        known = ledger.keys()
    for item in corpus:
        if isinstance(item, Document):
            key = instruction.key(item.text, server.llm, server.temperature, server.options)
            if key not in seen:
                seen.add(key)
                kept += key in known
                characters += 0 if key in known else len(item.text)
    return Estimate.of(len(seen), kept, characters, instruction.wording, prices)
