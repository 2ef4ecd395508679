"""What a reasoning LLM answers, told from what it thought before."""

import re

# The marks that servers leave in a reply where they do not take the reasoning out: of Qwen and DeepSeek, Seed, Mistral,
# Kimi, Cohere, and of the gpt-oss "harmony" format. Where one is the entity of an annotation, the text is about it.
_NO_ENTITY = r"(?![^\S\n]*(?:<\s?>|&lt;\s?&gt;))"
_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection)"
_OPENING = re.compile(
    rf"^[^\S\n]*(?:<{_NAMES}(?:\s[^<>\n]*)?>|\[THINK\]|◁think▷|<\|(?:START_THINKING|begin_of_thought)\|>"
    rf"|(?:<\|start\|>assistant)?<\|channel\|>\s?(?:analysis|commentary)\b[^<\n]*<\|message\|>){_NO_ENTITY}",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSING = re.compile(
    rf"(?:</{_NAMES}\s*>|\[/THINK\]|◁/think▷|<\|(?:END_THINKING|end_of_thought)\|>"
    rf"|<\|channel\|>\s?final\b[^<\n]*<\|message\|>){_NO_ENTITY}",
    re.IGNORECASE,
)
# What ends a turn in a chat template, and the tags that some models put around an answer.
_AROUND = re.compile(
    r"<\|(?:im_end|end|return|eot_id|endoftext|START_RESPONSE|END_RESPONSE)\|>|<end_of_turn>|</?(?:answer|response)>"
    rf"{_NO_ENTITY}",
    re.IGNORECASE,
)


def answer_of(reply: str) -> tuple[str, bool]:
    """A reply without its reasoning, and whether the reply ends within its reasoning.

    What precedes an end mark is reasoning also without a beginning, which many chat templates put into the prompt.
    """
    parts, place, unfinished = [], 0, False
    while opening := _OPENING.search(reply, place):
        parts.append(reply[place : opening.start()])
        closing = _CLOSING.search(reply, opening.end())
        unfinished = closing is None
        place = closing.end() if closing else len(reply)
    answer = "".join([*parts, reply[place:]])
    *_, answer = _CLOSING.split(answer)
    return _AROUND.sub("\n", answer), unfinished
