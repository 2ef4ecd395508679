"""The option --decode: whether words are labelled, or mentions that are found first."""

from typing import TYPE_CHECKING, Literal, get_args

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuner_embed.documents import Document
    from nuner_embed.heads.base import Head
    from nuner_embed.heads.detector import ProbeDetector
    from nuner_embed.heads.linear import LinearHead
    from nuner_embed.heads.tagger import Tagger

Decode = Literal["words", "spans", "auto"]
decode_option = click.option(
    "--decode",
    type=click.Choice(get_args(Decode)),
    default="words",
    show_default=True,
    help="words: label each word; adjacent words of a type are one mention. spans: label the mentions that the model's "
    "detector finds. auto: spans if the detector finds most mentions of DATA with the same bounds. Without DATA, as in "
    "nuner-embed tag.",
)
named_decode_option = click.option(
    "--decode",
    type=click.Choice(get_args(Decode)),
    default="auto",
    show_default=True,
    help="spans: score all short runs of words with the model's span head, or label what its detector finds. words: "
    "label each word; adjacent words of a type are one mention. auto: spans.",
)


def detector_for(decode: Decode, model: str) -> "ProbeDetector | None":
    """The mention detector of a model, unless words are labelled; said to be missing before anything is encoded."""
    if decode == "words":
        return None
    from nuner_embed.errors import ProbeError
    from nuner_embed.heads.detector import load_detector

    try:
        return load_detector(model)
    except ProbeError as error:
        raise ProbeError(f"--decode {decode} needs a mention detector, and --decode words does not: {error}") from None


def decoded_by(
    tagger: "Tagger[LinearHead]", documents: "Sequence[Document]", decode: Decode, detector: "ProbeDetector"
) -> "Tagger[Head]":
    """The trained probe, or a head that labels the mentions of a detector with it."""
    from nuner_embed.cli.progress import note
    from nuner_embed.heads.decoding import LEAST_FOUND, by_mentions, share_found

    found = by_mentions(tagger, detector)  # raises where the detector reads another encoder
    share = share_found(tagger, detector, documents)
    spans = decode == "spans" or share >= LEAST_FOUND
    note(
        f"the mention detector finds {share:.0%} of the mentions with the same bounds; "
        + ("its mentions are labelled" if spans else f"words are labelled (spans from {LEAST_FOUND:.0%} on)")
    )
    return found if spans else tagger
