"""What asking would cost, before anything is asked."""

from dataclasses import dataclass

# Rough, for English: OpenAI's tokenizers make about a token of four characters.
CHARACTERS_A_TOKEN = 4
# The 18,740 replies of our data set hold 1.5 characters for each of their texts, without descriptions; these about
# double them.
REPLY_CHARACTERS_A_CHARACTER = 3.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """How much there is to ask.

    Attributes:
        texts: different ones in the corpus.
        kept: of these, with a reply that is kept already.
        prompt_tokens: of the requests that are left, instruction included; rough.
        completion_tokens: of their replies; rougher still.
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
            texts: different ones in the corpus.
            kept: of these, answered.
            left_characters: of the others.
            instruction: the wording that stands before each.
            prices: of a million prompt tokens and of a million completion tokens.
        """
        left = texts - kept
        prompt = round((left_characters + left * len(instruction)) / CHARACTERS_A_TOKEN)
        completion = round(left_characters * REPLY_CHARACTERS_A_CHARACTER / CHARACTERS_A_TOKEN)
        cost = None if prices is None else (prompt * prices[0] + completion * prices[1]) / 1e6
        return cls(texts, kept, prompt, completion, cost)
