"""Runs the command line in forked processes: a crash, a hang or a hunger for memory is seen and told apart.

Most of a short command's time goes into imports. This process imports everything once and computes nothing, so that no
thread is running in it; each command runs in a child, which inherits the modules and dies with whatever befalls it.
"""

import contextlib
import importlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "support"))  # as pytest has it

MIB = 1 << 20
SECONDS = 20  # of processor time that a command may take
WAIT_SECONDS = 90  # of the clock: what waits for something, such as a pipe, hangs; a busy machine is slow, too
MEMORY = 2048 * MIB  # that a command may hold besides the modules
_ADDRESSES = 8192 * MIB  # a guard of the machine; libraries reserve more than they use
_FILE = 1024 * MIB
_IDLE_SECONDS = 8.0  # without any computing; what waits for a server that does not answer gives up before
_LINGER_SECONDS = 5.0  # a worker may finish what it is at

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NOISE = re.compile(
    r"Traceback|^\s+File \"|Warning: |terminate called|\[[EW]:onnxruntime|^Exception ignored", re.MULTILINE
)
_WARNING = re.compile(r"was never compared with its source|: not checked: ")  # which --quiet does not silence
_LONGEST_LINE = 2000


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: the exit code; the negative number of the signal that ended it.
        out, err: what it printed.
        seconds: of processor time.
        memory: bytes that it held besides what it began with.
        hung: it was ended, since it took too long.
        left: command lines of processes that it started and that outlived it; they are ended.
    """

    code: int
    out: bytes
    err: str
    seconds: float
    memory: int
    hung: bool = False
    left: tuple[str, ...] = ()

    def faults(self, *, silent: bool = False, verifies: bool = False) -> list[str]:
        """What no command may do, whatever its input.

        Args:
            silent: it ran with --quiet, and so prints nothing but results and one line of an error.
            verifies: its output lists what is wrong, so that exit code 1 needs no line of its own.
        """
        found = []
        if self.hung:
            found.append("hang")
        elif self.code < 0:
            found.append(f"signal {signal.Signals(-self.code).name}")
        elif self.code not in (0, 1, 2):
            found.append(f"exit code {self.code}")
        if self.seconds > SECONDS:
            found.append("over 20 s")
        if self.memory > MEMORY:
            found.append("over 2 GB")
        if "Traceback" in self.err:
            found.append("traceback")
        elif noise := _NOISE.search(self.err):
            found.append(f"noise: {noise[0].strip()}")
        lines = [line for line in self.err.splitlines() if line.strip() and not _WARNING.search(line)]
        errors = [line for line in lines if line.startswith("Error: ")]
        if not found and self.code in (1, 2):
            if len(errors) != 1 and not (verifies and not errors and (self.out.strip() or lines)):
                found.append(f"{len(errors)} lines of error")
            elif silent and not verifies and self.code == 1 and len(lines) > len(errors):
                found.append("more than one line")
        said = self.err + ("" if self.out[:1] in (b"{", b"[") else self.out.decode(errors="replace"))
        if _CONTROL.search(said.replace("\r\n", "\n")) or _BIDI.search(said):
            found.append("raw control characters")
        if any(len(line) > _LONGEST_LINE for line in lines):
            found.append("line too long")
        return found

    def last_words(self, lines: int = 6) -> str:
        """The end of standard error, or of standard output where that is empty."""
        text = self.err.strip() or self.out.decode(errors="replace").strip()
        return "\n".join(line[:300] for line in text.splitlines()[-lines:])


MODULES = (
    "nuner_embed.cli.commands",
    "faiss",
    "onnxruntime",
    "openvino",
    "torch",
    "transformers",
    "safetensors.torch",
    "tokenizers",
    "duckdb",
    "pyarrow.parquet",
    "pyarrow.csv",
    "sklearn.linear_model",
    "scipy.optimize",
    "onnx",
    "httpx",
    "openai",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
    "matplotlib.pyplot",
    "nuner_embed.indexes.retrieval",
    "nuner_embed.indexes.queries",
    "nuner_embed.indexes.faiss.backend",
    "nuner_embed.export.exporter",
    "nuner_embed.export.verification",
    "nuner_embed.pretraining.run",
    "nuner_embed.evaluation.fewshot_run",
    "nuner_embed.annotation.job",
    "nuner_embed.jobs.encoding",
    "nuner_embed.heads.probe",
    "nuner_embed.runtimes.torch",
    "nuner_embed.runtimes.onnx",
)


def import_all() -> None:
    """Imports what commands import, as far as it is installed, and runs none of it."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def in_child(
    work: Callable[[], None],
    *,
    cwd: Path,
    seconds: float = WAIT_SECONDS,
    limited: bool = True,
    meanwhile: Callable[[int], None] | None = None,
) -> Outcome:
    """Does something in a forked process, whose standard streams are kept.

    Args:
        work: what the process does.
        cwd: the folder that it runs in.
        seconds: of the clock, after which it is ended.
        limited: hold it to so much memory, processor time and size of files.
        meanwhile: what this process does before it waits, given the other's number.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.memfd_create("out"), os.memfd_create("err")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            _redirect(out, err)
            os.chdir(cwd)
            if limited:
                _limit()
            work()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:
                    code = code or 1
            os._exit(code)
    if meanwhile:
        meanwhile(child)
    hung, status, usage = _await(child, seconds, _IDLE_SECONDS if limited else seconds)
    left = _outlived(child) if meanwhile or _has_group(child) else ()
    said = [_content(descriptor) for descriptor in (out, err)]
    code = os.waitstatus_to_exitcode(status)
    hung = hung or code == -signal.SIGXCPU
    return Outcome(
        code=code,
        out=said[0],
        err=said[1].decode(errors="replace"),
        seconds=usage.ru_utime + usage.ru_stime,
        memory=usage.ru_maxrss * 1024 - before,
        hung=hung,
        left=left,
    )


def run_command(arguments: list[str], *, cwd: Path, real: bool = False) -> Outcome:
    """Runs `nuner-embed ARGUMENTS` in a child, or as a process of its own."""
    if real:
        return in_child(
            lambda: os.execv(sys.executable, [sys.executable, "-m", "nuner_embed.cli", *arguments]), cwd=cwd
        )

    def work() -> None:
        from nuner_embed.cli.__main__ import main

        sys.argv = ["nuner-embed", *arguments]
        main()

    return in_child(work, cwd=cwd)


def run_apart(arguments: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs `nuner-embed ARGUMENTS` without a limit, as whoever prepares something does."""
    return subprocess.run(
        [sys.executable, "-m", "nuner_embed.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def _redirect(out: int, err: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(descriptor, target)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115


def _limit() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESSES, size + _ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 5, SECONDS + 7))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _await(child: int, seconds: float, idle: float) -> tuple[bool, int, resource.struct_rusage]:
    """Waits for a child, and ends it and its children when the time is up, or when it does nothing for so long."""
    began = active = time.monotonic()
    pause, worked = 0.001, ""
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return False, status, usage
        now = time.monotonic()
        if now - began > 1 and (so_far := _work_of(child)) != worked:
            active, worked = now, so_far
        if now - began > seconds or now - active > idle:
            os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return True, status, usage
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def _work_of(child: int) -> str:
    """The processor time of a process so far; something else each time while it waits for a processor."""
    state, *rest = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return f"{time.monotonic()}" if state == "R" else " ".join(rest[10:12])


def noticed(child: int) -> bool:
    """Whether a child has ended; it can still be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _has_group(child: int) -> bool:
    """Whether processes of a child's are still there: cheaper than looking at all there are."""
    try:
        os.killpg(child, 0)
    except OSError:
        return False
    return True


def _outlived(session: int) -> tuple[str, ...]:
    """The command lines of a session's processes that are still there after a while, which are then ended."""
    end = time.monotonic() + _LINGER_SECONDS
    while (left := _session(session)) and time.monotonic() < end:
        time.sleep(0.02)
    for process in left:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    return tuple(left.values())


def _session(session: int) -> dict[int, str]:
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                found[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
    return found


def _content(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, min(size, 4 * MIB), 0)
    os.close(descriptor)
    return data
