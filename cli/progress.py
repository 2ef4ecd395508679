"""Progress on standard error: a bar on a terminal, a line every ten seconds elsewhere."""

import contextlib
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from nuner_embed.cli import streams
from nuner_embed.cli.options import counted, size
from nuner_embed.cli.verbosity import is_quiet
from nuner_embed.jobs.reporter import Plan, Reporter, Summary
from nuner_embed.printable import printable

_SECONDS_BETWEEN_LINES = 10.0


class _WithBar:
    """Shows a progress bar while a block runs, if standard error is a terminal."""

    def __init__(self) -> None:
        self._console = Console(file=streams.terminal(), highlight=False)
        self._bar = _make_bar(self._console) if self._console.is_terminal and not is_quiet() else None
        self._task: TaskID | None = None
        self._began = self._last_line = time.monotonic()
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._bar:
            self._held.callback(self._bar.stop)
            self._held.enter_context(streams.making_room(self))
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def print_above(self, line: str) -> None:
        """See `streams.Bar`."""
        self._console.print(Text(line), soft_wrap=True)

    def make_room(self) -> None:
        """See `streams.Bar`."""
        if self._bar:
            self._bar.stop()

    def _move(self, task: TaskID, **values: Any) -> None:
        """Moves the bar, and shows it again if it had made room for output."""
        if self._bar:
            self._bar.update(task, **values)
            self._bar.start()  # does nothing where it is shown


class JobReporter(_WithBar, Reporter):
    """Shows the progress of an encode job.

    Attributes:
        summary: the result of the job; None until the job has ended.
    """

    def __init__(self, made: Path | None = None) -> None:
        super().__init__()
        self.summary: Summary | None = None
        self._made = made
        self._task = self._bar.add_task("reading the corpus", total=None, rate="", shard="") if self._bar else None
        self._documents = 0
        self._done_tokens = 0
        self._total_tokens = 1
        self._shard = ""

    def notice(self, text: str) -> None:
        """Prints the text as a note."""
        note(text)

    def surveying(self, documents: int) -> None:
        """Shows on the bar how many documents were read."""
        if self._bar and self._task is not None:
            self._move(self._task, description=f"reading the corpus: {documents:,} documents")

    def started(self, plan: Plan) -> None:
        """Prints how much there is to encode."""
        self._documents = plan.finished_documents
        self.notice(
            f"corpus: {counted(plan.documents, 'document')}"
            + (f", {counted(plan.rejects, 'record')} rejected" if plan.rejects else "")
            + f", about {counted(plan.rows, 'row')}; the store will weigh about {size(plan.store_bytes)} "
            f"({size(plan.free_bytes)} free)"
        )
        share = 1 - plan.finished_documents / plan.documents
        self._total_tokens = max(1, round(plan.tokens * share))
        self._began = self._last_line = time.monotonic()
        if self._bar and self._task is not None:
            self._bar.reset(self._task, total=self._total_tokens, description="encoding")

    def tokens(self, count: int) -> None:
        """Moves the bar; without a bar, prints a line if the last line is ten seconds old."""
        self._done_tokens += count
        now = time.monotonic()
        rate = self._done_tokens / max(now - self._began, 1e-9)
        if self._bar and self._task is not None:
            self._move(self._task, completed=self._done_tokens, rate=f"{rate:,.0f} tokens/s", shard=self._shard)
        elif self._done_tokens and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = timedelta(seconds=round(max(0, self._total_tokens - self._done_tokens) / rate))
            share = min(1.0, self._done_tokens / self._total_tokens)
            self.notice(f"{share:4.0%}  {rate:,.0f} tokens/s  about {left} left  {self._shard}")

    def shard(self, name: str, documents: int, rows: int) -> None:
        """Remembers the shard for the next line."""
        self._documents += documents
        self._shard = f"up to {name}: {counted(self._documents, 'document')}"

    def finished(self, summary: Summary) -> None:
        """Prints what was read and written, and what may surprise the user, such as rejected records."""
        self.summary = summary
        rate = f", {summary.tokens_per_second:,.0f} tokens/s" if summary.tokens_per_second else ""
        lines = [
            f"read: {counted(summary.documents, 'document')}, {summary.tokens:,} tokens in "
            f"{counted(summary.windows, 'window')}, {summary.padding_share:.1%} padding{rate}, {summary.seconds:.1f} s",
        ]
        if self._made:
            rows, shards = counted(summary.rows, "row"), counted(summary.shards, "shard")
            lines.append(f"made: {self._made}, {rows} in {shards}, {size(summary.store_bytes)}")
        if summary.covered:
            covered = counted(summary.covered, "document")
            lines.append(f"windowed or not wholly encoded: {covered}, see coverage.jsonl")
        if summary.rejects:
            lines.append(f"rejected: {counted(summary.rejects, 'record')}, see rejects.jsonl")
        if summary.reduced_shards:
            lines.append(
                f"memory ran out in {counted(len(summary.reduced_shards), 'shard')}, which were encoded in smaller "
                "batches, see manifest.json"
            )
        for line in lines:
            self.notice(line)


class _RateAndShard(ProgressColumn):
    """The rate, and the last finished shard."""

    def render(self, task: Task) -> Text:
        return Text(printable(f"{task.fields['rate']}  {task.fields['shard']}"))


def _make_bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        _RateAndShard(Column(no_wrap=True)),  # one line, so that erasing one line makes room for results
        console=console,
        transient=True,
        # all other output goes through `streams`, which knows the bar
        redirect_stdout=False,
        redirect_stderr=False,
    )


class RowProgress(_WithBar):
    """Shows the progress of a piece of work: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, noun: str = "rows") -> None:
        super().__init__()
        self._noun = noun
        self._what = ""
        self._first = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Moves the bar, or prints a line if the last one is a while ago."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._last_line, self._first = what, now, now, done
            if self._bar:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(printable(what), total=total, rate="", shard="")
            rate = 0.0  # how long the first rows took is not known
        else:
            rate = (done - self._first) / max(now - self._began, 1e-9)
        shown = f"{rate:,.0f}{self._noun and ' '}{self._noun}/s" if rate else ""
        if self._bar and self._task is not None:
            self._move(self._task, completed=done, rate=shown)
        elif rate and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            note(f"{what}: {done / total:4.0%}  {shown}  about {timedelta(seconds=round((total - done) / rate))} left")


def note(text: str) -> None:
    """Prints a line for people on standard error, unless --quiet is given."""
    if not is_quiet():
        streams.say(text)


def conclude(*, read: str, made: str, then: str) -> None:
    """Prints the last lines of a command: what was read, what was written and where, and what to do next."""
    for name, text in (("read", read), ("made", made), ("next", then)):
        note(f"{name}: {text}")
