"""`nuner-embed annotate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.options import (
    FileToWrite,
    Within,
    counted,
    json_option,
    print_facts,
    print_json,
    reading_options,
    require_apart,
)
from nuner_embed.cli.streams import show
from nuner_embed.limits import REPLY_MIB

if TYPE_CHECKING:
    from nuner_embed.annotation.instruction import Instruction
    from nuner_embed.annotation.job import Asking
    from nuner_embed.annotation.report import AnnotationReport
    from nuner_embed.annotation.server import LLMServer

_SHOWN = 8


def _read_options(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """`("a.b=false", "c=x")` as `{"a": {"b": False}, "c": "x"}`."""
    options: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        *outer, last = name.split(".")
        if not equals or not all([*outer, last]) or not one.isprintable():
            raise click.BadParameter(f"{one!r} is not of the form NAME=VALUE, such as enable_thinking=false")
        place = options
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise click.BadParameter(f"{name} is given twice")
        place[last] = _json_or_text(value)
    return options


def _json_or_text(value: str) -> Any:
    from nuner_embed.files import parse_json

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return parse_json(value, parse_constant=refuse)
    except ValueError:
        return value


@click.command(
    epilog="Example: nuner-embed annotate sentences.txt -o annotated.jsonl --llm qwen3 --base-url http://localhost:8000/v1"
)
@click.argument("corpus", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    type=FileToWrite(),
    help="File to write the annotated corpus to, .jsonl or .jsonl.gz.",
)
@click.option("--llm", help="The LLM to ask, by the name that the server knows.  [default: none; CORPUS holds replies]")
@click.option(
    "--base-url", help="URL of an OpenAI-compatible server.  [default: $OPENAI_BASE_URL, else that of OpenAI]"
)
@click.option(
    "--key-variable",
    default="OPENAI_API_KEY",
    show_default=True,
    help="The environment variable that holds the API key; a server of your own may need no key.",
)
@click.option(
    "--instruction",
    type=click.Path(path_type=Path),
    help="A file with another instruction for the LLM, with {text} in place of the text.",
)
@click.option(
    "--occurrences",
    type=click.Choice(["all", "first"]),
    default="all",
    show_default=True,
    help="Which occurrences of an entity in its text are annotated.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=8,
    show_default=True,
    help="Maximum number of concurrent requests.",
)
@click.option(
    "--timeout",
    type=Within(0, min_open=True),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for a request, until the last byte of the reply.",
)
@click.option(
    "--retries", type=click.IntRange(0), default=5, show_default=True, help="Maximum number of retries per text."
)
@click.option(
    "--max-reply-mib",
    type=click.IntRange(1, 1024),
    default=REPLY_MIB,
    show_default=True,
    metavar="MIB",
    help="Maximum size of a reply in MiB, compressed or not; a larger reply is discarded.",
)
@click.option("--max-requests", type=click.IntRange(1), help="Stop after this many requests, including retries.")
@click.option("--temperature", type=Within(0), help="Sampling temperature of the LLM.  [default: that of the server]")
@click.option(
    "--llm-option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_read_options,
    help="A further field of each request, such as max_tokens=2000 or, to turn reasoning off in vLLM, "
    "chat_template_kwargs.enable_thinking=false. VALUE is read as JSON, or as text if it is not JSON. May be repeated.",
)
@click.option(
    "--dry-run", is_flag=True, help="Send no request; estimate the number of tokens and, with --prices, the cost."
)
@click.option(
    "--prices",
    nargs=2,
    type=Within(0),
    metavar="IN OUT",
    help="Prices of a million tokens in requests and in replies, for --dry-run.",
)
@click.option(
    "--sample-review",
    type=click.IntRange(1),
    metavar="N",
    help="Also write an HTML page on which a person can judge N of the annotations.",
)
@reading_options
@json_option
def annotate(
    corpus: tuple[str, ...],
    output: Path,
    llm: str | None,
    base_url: str | None,
    key_variable: str,
    instruction: Path | None,
    occurrences: Any,
    max_requests: int | None,
    dry_run: bool,
    prices: tuple[float, float] | None,
    sample_review: int | None,
    reading: dict[str, Any],
    as_json: bool,
    **patience: Any,
) -> None:
    """Let an LLM annotate the texts of CORPUS, one sentence per document, with entities and concepts of its own choice.

    Replies are kept in a file beside the output; the same command continues an interrupted job and asks only for texts
    without a reply. Without --llm, CORPUS holds replies: JSONL with "text" and "reply", or rows of numind/NuNER as
    .csv, .parquet or .jsonl.
    """
    from nuner_embed.annotation.instruction import Instruction
    from nuner_embed.annotation.report import beside, require_own_sidecars
    from nuner_embed.errors import AnnotationError

    if not output.name.endswith((".jsonl", ".jsonl.gz")):
        raise click.UsageError(f"-o {output}: the name must end in .jsonl or .jsonl.gz")
    suffixes = [".report.json", ".frequencies.png", *([".replies.jsonl"] * (llm is not None))]
    suffixes += [".review.html"] * (sample_review is not None)
    require_apart([output, *(beside(output, suffix) for suffix in suffixes)], [*corpus, instruction])
    if prices and not dry_run:
        raise click.UsageError("--prices goes with --dry-run")
    if not dry_run:
        require_own_sidecars(output, review=sample_review is not None)
    if llm is None:
        asked = {
            "--dry-run": dry_run, "--base-url": base_url, "--instruction": instruction, "--max-requests": max_requests,
            "--temperature": patience["temperature"], "--llm-option": patience["options"] or None,
            **{f"--{name.replace('_', '-')}": value for name, value in reading.items()},
        }  # fmt: skip
        given = [name for name, value in asked.items() if value not in (None, False, ())]
        if given:
            raise click.UsageError(
                f"{given[0]} goes with --llm: without one, CORPUS holds replies and nothing is asked"
            )
        from nuner_embed.annotation.replies import convert_replies

        report, asking = convert_replies(corpus, output, occurrences=occurrences), None
    else:
        import importlib.util

        from nuner_embed.installation import install_command

        if importlib.util.find_spec("openai") is None:
            raise AnnotationError(f"asking an LLM needs the openai package; {install_command('annotate')}")
        from nuner_embed.annotation.server import LLMServer

        wording = Instruction.read(instruction) if instruction else Instruction.open_ended()
        timeout = patience.pop("timeout")
        server = LLMServer(llm, base_url, key_variable, timeout_seconds=timeout, **patience)
        if dry_run:
            _estimate(corpus, output, server, wording, prices, reading, as_json)
            return
        report, asking = _ask(corpus, output, server, wording, occurrences, max_requests, reading)
    _finish(corpus, output, report, asking, sample_review, as_json)


def _ask(
    corpus: tuple[str, ...],
    output: Path,
    server: "LLMServer",
    instruction: "Instruction",
    occurrences: Any,
    max_requests: int | None,
    reading: dict[str, Any],
) -> "tuple[AnnotationReport, Asking]":
    from nuner_embed import Corpus
    from nuner_embed.annotation.job import annotate as run
    from nuner_embed.cli.progress import RowProgress, note

    with Corpus(corpus, **reading) as opened, RowProgress("texts") as progress:
        report, asking = run(
            opened, output, server, instruction=instruction, occurrences=occurrences, max_requests=max_requests,
            progress=progress,
        )  # fmt: skip
    note(
        f"{counted(asking.texts, 'text')}: {asking.kept:,} answered before, {asking.answered:,} now in "
        f"{counted(asking.requests, 'request')}, {asking.unanswered:,} without a reply"
    )
    others = [name for name in asking.served_by if name != server.llm]
    if others:
        note(f"asked for {server.llm!r}, but the server says that {', '.join(map(repr, others))} answered")
    if asking.prompt_tokens:
        note(f"tokens so far: {asking.prompt_tokens:,} in requests, {asking.completion_tokens:,} in replies")
    return report, asking


def _estimate(
    corpus: tuple[str, ...],
    output: Path,
    server: "LLMServer",
    instruction: "Instruction",
    prices: tuple[float, float] | None,
    reading: dict[str, Any],
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from nuner_embed import Corpus
    from nuner_embed.annotation.job import estimate

    with Corpus(corpus, **reading) as opened:
        found = estimate(opened, output, server, instruction, prices)
    if as_json:
        print_json(asdict(found))
        return
    print_facts(
        {
            "texts": f"{found.texts:,}, {found.kept:,} of them answered already",
            "requests": f"{found.texts - found.kept:,} at least",
            "tokens in requests": f"about {found.prompt_tokens:,}",
            "tokens in replies": f"about {found.completion_tokens:,}",
            "cost": "unknown; give --prices IN OUT" if found.cost is None else f"about {found.cost:,.2f}",
        }
    )


def _finish(
    read: tuple[str, ...],
    output: Path,
    report: "AnnotationReport",
    asking: "Asking | None",
    sample_review: int | None,
    as_json: bool,
) -> None:
    """Writes what belongs to the corpus, shows the report, and ends with 1 if texts have no reply."""
    from nuner_embed import Corpus, Document
    from nuner_embed.annotation.report import FIGURE_SUFFIX, REPORT_SUFFIX, REVIEW_SUFFIX, beside, frequency_figure
    from nuner_embed.cli.progress import conclude, note
    from nuner_embed.errors import AnnotationError
    from nuner_embed.files import atomic_write, write_json
    from nuner_embed.installation import install_command

    facts = report.to_dict()
    write_json(beside(output, REPORT_SUFFIX), facts)
    if report.mentions:
        try:
            figure = frequency_figure(report.concepts)
        except ImportError:
            note(f"the plot of frequencies is not drawn: {install_command('plots')}")
        else:
            with atomic_write(beside(output, FIGURE_SUFFIX), follow=False) as stream:
                stream.write(figure)
    if sample_review and report.mentions:
        from nuner_embed.annotation.report import sample_mentions, write_review

        with Corpus([output]) as corpus:
            sample = sample_mentions((item for item in corpus if isinstance(item, Document)), sample_review)
        page = beside(output, REVIEW_SUFFIX)
        write_review(page, sample, output.name)
        note(f"to judge {counted(len(sample), 'annotation')}, open {page}")
    if as_json:
        print_json(facts)
    else:
        _show(report)
    if asking and asking.stopped:
        note(f"stopped: {asking.stopped}")
    conclude(
        read=f"{', '.join(read)}, {counted(report.replies, 'reply', 'replies')}",
        made=f"{output}, {counted(report.sentences, 'sentence')} with {counted(report.mentions, 'annotation')}",
        then=(
            f"the same command asks again for {counted(asking.unanswered, 'text')} without a reply"
            if asking and asking.unanswered
            else f"nuner-embed pretrain {output} -o checkpoint"
        ),
    )
    if asking and asking.failures:
        failed = sum(asking.failures.values())
        reasons = "; ".join(f"{count:,}: {reason}" for reason, count in list(asking.failures.items())[:_SHOWN])
        raise AnnotationError(f"{counted(failed, 'text')} got no reply ({reasons}); the same command asks again")


def _show(report: "AnnotationReport") -> None:
    found = f", {report.folded:,} found without regard to case, quotes or blanks" if report.folded else ""
    kept = f"{report.sentences:,} of {report.replies:,} with a reply"
    print_facts(
        {
            "sentences": kept,
            "annotations": f"{report.mentions:,}, from {counted(report.lines, 'line')}{found}",
            "unique concepts": f"{len(report.concepts):,}, {report.once:,} of them seen once",
        }
    )
    for what, drops in (("sentences", report.dropped_sentences), ("annotations", report.dropped_annotations)):
        for reason, count in drops.most_common():
            show(f"dropped {what}: {count:,}, {reason}")
    if report.concepts:
        frequent = (f"{name} {count:,}" for name, count in report.concepts.most_common(_SHOWN))
        show(f"most frequent: {', '.join(frequent)}", f"among the rarest: {', '.join(report.rarest(_SHOWN))}")
