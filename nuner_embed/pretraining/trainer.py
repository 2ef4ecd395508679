"""The training loop: steps, validations, and a state on disk from which a run continues exactly."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nuner_embed.arguments import Progress
from nuner_embed.errors import PretrainingError
from nuner_embed.files import atomic_write
from nuner_embed.pretraining.examples import Batch, Examples, make_batch, plan_epoch
from nuner_embed.pretraining.feed import Feed
from nuner_embed.pretraining.folder import METRICS_FILE
from nuner_embed.pretraining.objectives import Compared
from nuner_embed.pretraining.processes import Processes
from nuner_embed.pretraining.related import Extend
from nuner_embed.pretraining.run_state import (
    Progressed,
    Row,
    Sums,
    load_state,
    make_optimizer,
    rate_at,
    save_state,
    set_rate,
    to_csv,
    trained,
)
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.tables import Ints

_SECONDS_BETWEEN_STATES = 120.0
_ROWS_AN_EPOCH = 20


@dataclass
class RunningSums(Sums):
    """Sums over batches while they are computed.

    Attributes:
        waiting: results of batches that are not fetched from their device yet.
    """

    waiting: list[Compared] = field(default_factory=list, repr=False)

    def add(self, compared: Compared) -> None:
        """Adds a batch; its results are fetched from the device only when `settle` is called."""
        self.waiting.append(dataclasses.replace(compared, loss=compared.loss.detach()))

    def settle(self) -> Sums:
        """Adds the waiting batches, and returns the sums."""
        for compared in self.waiting:
            self.loss += float(compared.loss)
            self.correct += int(compared.correct)
            self.labelled += int(compared.labelled)
            self.batches += 1
        self.waiting = []
        return Sums(self.loss, self.correct, self.labelled, self.batches)


@dataclass(frozen=True, slots=True)
class Curriculum:
    """The data on which a model is trained and measured.

    Attributes:
        examples: all pieces.
        train, held_out: numbers of the pieces of each part.
        feed: makes the model's arguments from a batch.
        probe: measures the text encoder in its present state; None for no probe.
        extend: adds to a batch what a thesaurus has for it; None without a thesaurus.
    """

    examples: Examples
    train: Ints
    held_out: Ints
    feed: Feed
    probe: Callable[[], float] | None = None
    extend: Extend | None = None


@dataclass(frozen=True, slots=True)
class Reporter:
    """Receives the messages and the progress of a run.

    Attributes:
        note: is called with messages for people.
        progress: is told `(what, done, total)`.
    """

    note: Callable[[str], None]
    progress: Progress


@dataclass(frozen=True, slots=True)
class StateFile:
    """The file of the state of a run.

    Attributes:
        path: of the file.
        fingerprint: of data, base and settings; the state of another run is refused.
    """

    path: Path
    fingerprint: str


class Trainer:
    """Trains a model on the training part of some examples and measures it on the held-out part.

    A run that is killed and resumed ends in the same bits: the random numbers and the learning rate of a step depend
    only on the number of the step. Autocast, accumulation and clipping are torch's own.

    Args:
        model: a `BiEncoder`, `TokenClassifier` or `SpanNetwork`, on its device.
        curriculum: the data for training and measuring.
        settings: all values.
        processes: of the run.
        state: the file of the state.
        reporter: is told how the run goes.
        patience: the training stops after so many validations in which no more of the held-out labels were right (or
            as many, at a lower loss), and ends with the best parameters; None to train to the end and take the last.
    """

    def __init__(
        self,
        model: nn.Module,
        curriculum: Curriculum,
        settings: PretrainSettings,
        processes: Processes,
        state: StateFile,
        reporter: Reporter,
        patience: int | None = None,
    ) -> None:
        self.model, self._settings, self._processes = model, settings, processes
        self._examples, self._train, self._feed = curriculum.examples, curriculum.train, curriculum.feed
        self._state, self._reporter = state, reporter
        self._probe, self._extend = curriculum.probe, curriculum.extend
        self._wrapped = processes.wrapped(model)
        self._optimizer = make_optimizer(model, settings)
        lengths = self._examples.lengths
        self._held_out = plan_epoch(lengths, curriculum.held_out, settings.batch_size, [settings.seed, 0])
        batches = -(-len(self._train) // settings.batch_size)
        self._steps_an_epoch = -(-batches // (settings.accumulate * processes.number))
        self.steps = self._steps_an_epoch * settings.epochs
        self.step = 0
        self.rows: list[Row] = []
        self._sums = RunningSums()
        self._planned = -1
        self._epoch: list[Ints] = []
        self._stand_in = self._train[:0]
        self._began = self._kept_at = time.monotonic()
        self._seen = 0
        self._patience = patience
        self._best: dict[str, torch.Tensor] = {}

    def resume(self) -> bool:
        """Restores the state on disk; returns False if there is none.

        Raises:
            PretrainingError: the state is damaged, or of another run.
        """
        if not self._state.path.exists():
            return False
        best = self._best if self._patience is not None else None
        kept = load_state(self._state.path, self.model, self._optimizer, best)
        if kept.fingerprint != self._state.fingerprint:
            raise PretrainingError(f"{self._state.path} belongs to another run; --force starts over")
        if kept.step > self.steps or not kept.rows:
            raise PretrainingError(
                f"{self._state.path}: step {kept.step:,} of {self.steps:,} with {len(kept.rows)} rows of measurements "
                "is not a state of this run; --force starts over"
            )
        self.step, self.rows = kept.step, kept.rows
        self._sums = RunningSums(**dataclasses.asdict(kept.sums))
        return True

    def run(self) -> None:
        """Trains to the end, from the present step; see `patience`.

        Raises:
            PretrainingError: the loss is not finite.
        """
        validations = self._validation_steps()
        every = max(1, self._steps_an_epoch // _ROWS_AN_EPOCH)
        if not self.step and not self.rows:
            self._add_row(validate=True)
        self._began, self._seen, self._kept_at = time.monotonic(), 0, time.monotonic()
        while self.step < self.steps and not self._is_stopped():
            epoch, within = divmod(self.step, self._steps_an_epoch)
            if epoch != self._planned:
                self._plan(epoch)
            self._train_step(within)
            validate, due = self.step in validations, self.step % every == 0 or self.step == self.steps
            if validate or due:
                self._add_row(validate=validate, close=due)
            if time.monotonic() - self._kept_at > _SECONDS_BETWEEN_STATES:
                self.keep()
            self._reporter.progress("training", min(self._done(), self._total()), self._total())
        for name, parameter in trained(self.model).items() if self._best else ():
            with torch.no_grad():
                parameter.copy_(self._best[name])

    def best_row(self) -> Row:
        """The row of the parameters with which the run ends: the best validation, or the last row.

        The held-out loss alone would stop too early: from a few examples it rises again while more labels get right.
        """
        if self._patience is None:
            return self.rows[-1]
        return min(self._validations(), key=lambda row: (-(row.validation_top1 or 0.0), row.validation_loss or 0.0))

    def _validations(self) -> list[Row]:
        return [row for row in self.rows if row.validation_loss is not None]

    def _is_stopped(self) -> bool:
        if self._patience is None:
            return False
        since = [row for row in self._validations() if row.step > self.best_row().step]
        return len(since) >= self._patience

    def keep(self) -> None:
        """Writes the state."""
        if self._processes.is_main:
            kept = Progressed(self._state.fingerprint, self.step, self.rows, self._sums.settle())
            save_state(self._state.path, self.model, self._optimizer, kept, self._best)
            with atomic_write(self._state.path.with_name(METRICS_FILE), follow=False) as stream:
                stream.write(to_csv(self.rows))
        self._kept_at = time.monotonic()

    def _autocast(self) -> Any:
        bf16 = self._settings.precision == "bf16"
        return torch.autocast(self._processes.device.type, torch.bfloat16, enabled=bf16)

    def _total(self) -> int:
        return len(self._train) * self._settings.epochs

    def _done(self) -> int:
        at_once = self._settings.batch_size * self._settings.accumulate * self._processes.number
        return self.step * at_once

    def _validation_steps(self) -> set[int]:
        every = self._settings.validate_every * self._steps_an_epoch
        count = int(self.steps / every + 1e-9)
        return {round(every * i) for i in range(1, count + 1)} | {self.steps}

    def _plan(self, epoch: int) -> None:
        self._planned = epoch
        self._epoch = plan_epoch(
            self._examples.lengths,
            self._train,
            self._settings.batch_size,
            [self._settings.seed, 1, epoch],
            by_length=not self.model.takes_flat,
        )
        # stands in for a batch without labels in a process
        self._stand_in = next((pieces for pieces in self._epoch if self._is_labelled(pieces)), self._epoch[0])

    def _batches(self, within: int) -> Sequence[Ints]:
        """The batches of one step in this process."""
        processes, mine = self._processes.number, self._processes.rank
        together = self._settings.accumulate * processes
        some = self._epoch[within * together : (within + 1) * together]
        if processes > 1:  # every process must have something to compare, or the others would wait for it
            some = [pieces if self._is_labelled(pieces) else self._stand_in for pieces in some]
            some += [self._stand_in] * (-len(some) % processes)
        return some[mine::processes]

    def _is_labelled(self, pieces: Ints) -> bool:
        return bool(np.isin(pieces, self._examples.piece).any())

    def _batch(self, pieces: Ints, drawn_by: tuple[int, int, int] | None = None) -> Batch:
        """The batch of some pieces; step, process and place in the step decide the draw of further names."""
        batch = make_batch(self._examples, pieces)
        if self._extend is None:
            return batch
        random = np.random.default_rng([self._settings.seed, 3, *drawn_by]) if drawn_by is not None else None
        return self._extend(batch, random)

    def _train_step(self, within: int) -> None:
        settings = self._settings
        # Every step seeds its own random numbers, so that a resumed run needs no generator state.
        torch.manual_seed(_mixed(settings.seed, self.step, self._processes.rank))
        self.model.set_training(True)
        set_rate(self._optimizer, rate_at(self.step, self.steps, settings))
        batches = self._batches(within)
        for number, pieces in enumerate(batches):
            batch = self._batch(pieces, (self.step, self._processes.rank, number))
            self._seen += len(pieces)
            if not len(batch.token):
                continue  # a batch without labels has nothing to compare
            last = number == len(batches) - 1
            with self._autocast(), _together(self._wrapped, last):
                compared = self._wrapped(*self._feed(batch))
            (compared.loss / len(batches)).backward()
            self._sums.add(compared)
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], settings.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _add_row(self, *, validate: bool, close: bool = True) -> None:
        """Adds a row of measurements; `close` ends the current stretch of training and adds its means.

        A validation within a stretch does not end the stretch: the mean of one batch would be a spike in the curve.
        """
        sums, seconds = (self._sums.settle(), time.monotonic() - self._began) if close else (Sums(), 0.0)
        if not math.isfinite(sums.loss):
            raise PretrainingError(
                f"the loss is not finite at step {self.step:,}; start again with a smaller --learning-rate and --force"
            )
        began, facts = time.monotonic(), self.model.facts()
        row = Row(
            step=self.step,
            epoch=self.step / self._steps_an_epoch,
            train_loss=sums.mean_loss if sums.batches else None,
            train_top1=sums.top_1 if sums.batches else None,
            learning_rate=rate_at(max(0, self.step - 1), self.steps, self._settings),
            scale=facts.get("scale"),
            bias=facts.get("bias"),
            sentences_per_second=self._seen / seconds if seconds and self._seen else None,
        )
        if validate:
            row = self._validated(row)
        self.rows.append(row)
        if validate and self._patience is not None and self.best_row() is row:
            self._best = {name: one.detach().clone() for name, one in trained(self.model).items()}
        if close:
            self._sums, self._began, self._seen = RunningSums(), time.monotonic(), 0
        else:
            self._began += time.monotonic() - began  # time for measuring is not training time

    def _validated(self, row: Row) -> Row:
        sums = self.validate()
        f1 = self._probe() if self._probe else None
        shown = []
        if sums.batches:
            row = dataclasses.replace(row, validation_loss=sums.mean_loss, validation_top1=sums.top_1)
            shown += [f"held-out loss {sums.mean_loss:.4g}", f"{self.model.counts} {sums.top_1:.1%}"]
        if f1 is not None:
            row = dataclasses.replace(row, probe_f1=f1)
            shown.append(f"probe F1 {f1:.1%}")
        if shown:
            self._reporter.note(f"epoch {row.epoch:.3g}: {', '.join(shown)}")
        return row

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def validate(self) -> Sums:
        """The loss and the top-1 accuracy over the held-out part, in the same batches every time.

        A thesaurus draws no names into these batches, so that a token is compared with the same concepts as without
        one. But the related names among them count as in training: the loss is not that of a run without a thesaurus,
        and a token is also right if its best concept is a synonym of one of its own.
        """
        self.model.set_training(False)
        sums = RunningSums()
        for number, pieces in enumerate(self._held_out):
            batch = self._batch(pieces)
            if len(batch.token):
                with self._autocast():
                    sums.add(self.model(*self._feed(batch)))
            self._reporter.progress("validating", number + 1, len(self._held_out))
        return sums.settle()


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _together(wrapped: Any, last: bool) -> Any:
    """A context for one batch of a step; several processes add up their gradients at the last batch alone."""
    return wrapped.no_sync() if hasattr(wrapped, "no_sync") and not last else contextlib.nullcontext()
