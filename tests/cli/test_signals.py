"""Signals at any moment: a line or silence, 128 + n, and the same command goes on."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from fakes import tiny_model
from llm_server import serve

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# as the console script does it, and a word to us once that has imported what it imports first
SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
sys.argv[0] = "nuner-embed"
from nuner_embed.cli.__main__ import main
os.write(int(os.environ["SAY"]), b"!")
main()
"""
JOBS = {
    "encode": "encode long.txt -o s --model m --shard-rows 2000",
    "encode with workers": "encode long.txt -o w --model m --shard-rows 2000 --workers 2",
    "search": "search index --queries q.txt --json",
    "index build": "index build store -o i --kind hnsw --force",
    "probe train": "probe train train.conll -o made-probe --model m --force",
    "pretrain": "pretrain c.jsonl -o t --base base --epochs 40 --batch-size 2",
    "finetune": "finetune train.conll -o f --base base --epochs 40 --batch-size 2",
    "export": "export nuner-mini -o e --force",
    "demo": "demo -o demo",
    "tag": "tag long.txt --types city --model m",
    "annotate": "annotate notes.txt -o a.jsonl --llm tiny --base-url URL --concurrency 2",
    "evaluate": "evaluate fewshot --model m --set sea train.conll train.conll --k 1,2 --draws 20 -o r",
}

MOMENTS = int(os.environ.get("NUNER_EMBED_MOMENTS", "3"))  # of a job, at which a signal comes


def start(command, folder, code=SCRIPT, **environment):
    """Starts a command and returns it once its own code runs."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command.split()],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        pass_fds=[writing], env={**os.environ, "SAY": str(writing), **environment},
    )  # fmt: skip
    os.close(writing)
    assert os.read(reading, 1) == b"!"
    os.close(reading)
    return process


def end(process, number):
    """Waits for the end; whether the signal came in time."""
    _, err = process.communicate(timeout=120)
    assert not [word for word in ("Traceback", "Exception ignored") if word in err], err
    if process.returncode == 0:
        return False
    assert process.returncode in (128 + number, -number), err
    assert len([line for line in err.splitlines() if "Interrupted" in line]) <= 1
    return True


@pytest.fixture
def folder(workshop, tmp_path):
    for name in ("m", "store", "index", "train.conll", "c.jsonl", "q.txt", "notes.txt"):
        (tmp_path / name).symlink_to(workshop / name)
    (tmp_path / "long.txt").write_text("The ferry left Zürich at seven, and Mara Quill was on it.\n" * 3000)
    return tmp_path


def test_at_each_import(tmp_path):
    """The n-th module that is looked for sends the signal: in the middle of the import of another, as a rule."""
    hook = """
import os, signal, sys
class Hook:
    left = int(os.environ["AT"])
    def find_spec(self, name, path=None, target=None):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), int(os.environ["NUMBER"]))
sys.meta_path.insert(0, Hook())
"""
    for i, at in enumerate((1, 3, 8, 20, 50)):
        number = SIGNALS[i % 3]
        code = SCRIPT.replace("main()", hook + "main()") if at > 1 else SCRIPT.replace("os.write", hook + "os.write")
        process = start("models list", tmp_path, code, AT=str(at), NUMBER=str(int(number)))
        assert end(process, number), at


@pytest.mark.parametrize("step", [31, pytest.param(3, marks=pytest.mark.slow)])
def test_at_lines_of_the_beginning_and_of_the_end(tmp_path, step):
    """The n-th line of the modules that run first and last sends the signal."""
    trace = """
import os, signal, sys, threading
left = int(os.environ["AT"])
def trace(frame, event, argument):
    global left
    if not frame.f_code.co_filename.endswith(("cli/__main__.py", "cli/signals.py", "cli/streams.py")):
        return None
    if event == "line" and frame.f_code.co_name not in ("_stop", "_raise", "_importing", "_cancelled_tasks"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)
    return trace
sys.settrace(trace)
"""
    code = SCRIPT.replace('os.write(int(os.environ["SAY"]), b"!")', f'os.write(int(os.environ["SAY"]), b"!"){trace}')
    lines = 1
    while end(start("models list", tmp_path, code, AT=str(lines)), signal.SIGINT):
        lines += step
    assert lines > 50


@pytest.mark.parametrize("number", [SIGNALS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in SIGNALS[1:])])
def test_twice_and_once_more_after_a_second(folder, number):
    process = start("encode long.txt -o s --model m --shard-rows 2000", folder)
    time.sleep(1.5)
    process.send_signal(number)
    process.send_signal(number)
    time.sleep(1.2)
    process.send_signal(number)
    end(process, number)


def test_no_lock_stays_held(tmp_path):
    """Without care, every other signal that meets `with condition:` leaves the lock of the condition held."""
    code = """
import os, signal, threading, time
from nuner_embed.cli.signals import Signals

def held():
    Signals().heed()
    condition = threading.Condition()
    sender = threading.Thread(target=lambda: (time.sleep(0.001), os.kill(os.getpid(), signal.SIGTERM)))
    try:
        sender.start()
        while True:
            with condition:
                pass
    except KeyboardInterrupt:
        sender.join()
        return condition._is_owned()

print(sum(held() for _ in range(24)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stderr


def test_nohup_is_heeded(folder):
    """What a shell starts under nohup does not end with its terminal."""
    code = SCRIPT.replace("sys.argv[0]", "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsys.argv[0]", 1)
    process = start("annotate --help", folder, code)
    process.send_signal(signal.SIGHUP)
    assert not end(process, signal.SIGHUP)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_at_some_moments_of_each_job(folder, job):
    """Once, twice at once, and twice with more than a second between; the same command finishes what was begun."""
    tiny_model("bert", folder / "base")
    chance = random.Random(job)
    with serve(lambda text: "Oslo <> city") as llm:
        llm.seconds = 0.3
        command = JOBS[job].replace("URL", llm.url)
        before = set(folder.iterdir())
        began = time.monotonic()
        finish(command, folder)
        seconds = time.monotonic() - began
        clear(folder, before)
        came = 0
        for i in range(MOMENTS):
            number = SIGNALS[i % 3]
            process = start(command, folder, OPENAI_API_KEY="none")
            time.sleep(chance.uniform(i, i + 1) / MOMENTS * seconds * 0.8)
            process.send_signal(number)
            if i % 2:
                time.sleep(chance.choice([0.01, 0.3, 1.3]))
                process.send_signal(number)
            if end(process, number):
                came += 1
            else:  # the job was at its end
                clear(folder, before)
        assert came
        finish(command, folder, perhaps_finished=True)


def clear(folder, before):
    """Removes what a job made."""
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def finish(command, folder, *, perhaps_finished=False):
    """Runs a command to its end; a signal may have come when its model was in its place already."""
    process = start(command, folder, OPENAI_API_KEY="none")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 or (perhaps_finished and "holds a finished model" in err), err
