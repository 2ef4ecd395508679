"""What a model is before it runs: where its files lie, its recipe, its tokenizer, its hashes."""

from nuner_embed.models.locating import Model, locate
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.tokenizer import TextTokenizer

__all__ = ["Model", "Recipe", "TextTokenizer", "locate"]
