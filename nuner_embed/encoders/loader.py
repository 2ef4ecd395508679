"""Loads encoders by the name of their model."""

from dataclasses import dataclass, field, replace
from typing import Any, Self, get_args

from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ModelError, StoreMismatch
from nuner_embed.machine import threads_for
from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.models.recipe import Recipe, semantic_hash
from nuner_embed.models.resolver import GraphModel, Model, TransformersModel, graph_beside, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.printable import printable
from nuner_embed.runtimes.base import Precision, RuntimeName, RuntimeOptions
from nuner_embed.runtimes.registry import CHOICES, entry_of, load_runtime, running
from nuner_embed.runtimes.selection import choose
from nuner_embed.runtimes.weights_selection import choose_precision


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything needed to load an encoder, in this process or another.

    Attributes:
        model: a Hugging Face or exported directory, a known name, or a hub name.
        runtime: "auto" runs an exported graph with whatever is fastest here, and a directory of weights with torch;
            without torch, and with "onnx" or "openvino", the graph that lies beside the weights, if there is one.
        device: "auto", "cpu" or "cuda".
        precision: of the arithmetic, "f32", "bf16" or "fp16"; "auto" is what is fastest on a CPU and passes its gate,
            and f32 in torch on CUDA.
        threads: 0 for one for each core.
        batch_tokens: tokens a batch may hold, padding included; None for the fastest, or the runtime's own.
        recipe: `layers`, `pooling`, `normalize`, `max_length`, `stride` in place of the model's own; None keeps it.
        graph: see `RuntimeOptions`.
        streams: see `RuntimeOptions`; 0 for the fastest number.
        semantic_hash: of the expected encoder, where a file such as a manifest gives the model's name. The name then
            starts no download, and another model of that name is not run. None where a person gives the name.
    """

    model: str = DEFAULT_MODEL
    runtime: RuntimeName = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    threads: int = 0
    batch_tokens: int | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    graph: str | None = None
    streams: int = 0
    semantic_hash: str | None = None

    def load(self, workers: int = 1) -> TextEncoder:
        """Loads the model into the runtime.

        Args:
            workers: processes that share the cores where `threads` is 0.

        Raises:
            ModelError: the model cannot be found, loaded, or follow the recipe.
            RuntimeUnavailable: the runtime or device is not available.
        """
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, not {self.batch_tokens}")
        found = locate(self.model, fetch=self.semantic_hash is None)
        if isinstance(found, TransformersModel) and self._wants_graph():
            found = graph_beside(found) or found
        recipe = resolve_recipe(found, **self.recipe)
        tokenizer = TextTokenizer.from_directory(found.directory)
        if tokenizer.largest_id >= found.config.vocabulary:
            raise ModelError(
                f"{self.model}: the tokenizer's ids go up to {tokenizer.largest_id}, the network has only "
                f"{found.config.vocabulary}; they do not belong together"
            )
        if self.semantic_hash is not None:
            _require_same(found, tokenizer, recipe, self.semantic_hash)
        threads = self.threads or threads_for(workers)
        options = RuntimeOptions(self.device, self.precision, threads, self.streams, self.graph)
        if isinstance(found, GraphModel):
            choice = choose(found, self.runtime, options, self.batch_tokens)
        else:
            choice = choose_precision(found, recipe, tokenizer, self.runtime, options)
        loaded = load_runtime(
            found, recipe, choice.runtime, replace(options, precision=choice.precision, streams=choice.streams)
        )
        return TextEncoder(
            tokenizer=tokenizer,
            runtime=loaded,
            recipe=recipe,
            weights_sha256=found.weights_sha256,
            batch_tokens=self.batch_tokens or choice.batch_tokens or loaded.batch_tokens,
            config_sha256=found.config.sha256,
            source=found.source,
        )

    def _wants_graph(self) -> bool:
        """Whether to run the graph beside a model's weights: the runtime runs graphs, or nothing here runs weights."""
        if self.runtime == "auto":
            return not any(entry.installed for entry in running("weights").values())
        return entry_of(self.runtime).runs == "graph"

    def pinned(self, numerics: dict[str, Any]) -> Self:
        """A copy in which all open choices are those of an earlier run.

        Raises:
            StoreMismatch: this program does not know the runtime or precision of the earlier run.
        """
        for name, values in (("runtime", CHOICES), ("precision", get_args(Precision))):
            if numerics[name] not in values:
                raise StoreMismatch(
                    f"the store was begun with the {name} {printable(numerics[name])}, which this program does not "
                    "have; start over with --force"
                )
        return replace(
            self,
            runtime=numerics["runtime"] if self.runtime == "auto" else self.runtime,
            precision=numerics["precision"] if self.precision == "auto" else self.precision,
            threads=self.threads or numerics["threads"],
            batch_tokens=self.batch_tokens or numerics["batch_tokens"],
            graph=numerics.get("file"),
            streams=numerics.get("streams", 1),
        )


def load_encoder(
    model: str = DEFAULT_MODEL,
    *,
    runtime: RuntimeName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    threads: int = 0,
    batch_tokens: int | None = None,
    **recipe: Any,
) -> TextEncoder:
    """Loads a model into a runtime; see `ModelSpec` for the arguments and `ModelSpec.load` for what it raises."""
    return ModelSpec(model, runtime, device, precision, threads, batch_tokens, recipe).load()


def load_named_encoder(
    name: str, recipe: dict[str, Any], semantic_hash: str, *, threads: int = 0, **options: Any
) -> TextEncoder:
    """Loads the encoder that a file, such as an index's manifest, names.

    Args:
        name: of the model; it starts no download.
        recipe: as in the file.
        semantic_hash: of the encoder, as in the file; no other encoder is run.
        threads: 0 for one for each core.
        options: of `ModelSpec`.

    Raises:
        ModelError: no such model is on this machine, or its semantic hash differs.
    """
    spec = ModelSpec(name, threads=threads, recipe=recipe_keywords(recipe), semantic_hash=semantic_hash, **options)
    return spec.load()


def recipe_keywords(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a file as keywords of `ModelSpec.recipe`.

    Raises:
        ModelError: the values are no recipe.
    """
    try:
        return Recipe.from_dict(recipe).to_dict()
    except ValueError as error:
        raise ModelError(f"the recipe is invalid: {error}") from None


def require_named(found: Model, recipe: dict[str, Any], wanted: str) -> None:
    """Refuses a model whose semantic hash is not the one in a file, before the model runs.

    Raises:
        ModelError: the hashes differ.
    """
    tokenizer = TextTokenizer.from_directory(found.directory)
    _require_same(found, tokenizer, resolve_recipe(found, **recipe_keywords(recipe)), wanted)


def _require_same(found: Model, tokenizer: TextTokenizer, recipe: Recipe, wanted: str) -> None:
    there = semantic_hash(found.weights_sha256, found.config.sha256, tokenizer.sha256, recipe.to_dict())
    if there != wanted:
        raise ModelError(
            f"{found.name} with this recipe has the semantic hash {there[:12]}, not the expected {wanted[:12]}"
        )


def resolve_recipe(model: Model, **changes: Any) -> Recipe:
    """The model's recipe with some values replaced, checked against the model.

    Raises:
        ModelError: the model cannot follow the recipe, or a value is invalid.
    """
    try:
        wanted = model.recipe.replace(**changes)
    except ValueError as error:
        raise ModelError(f"{model.name}: {error}") from None
    return model.checked_recipe(wanted)
