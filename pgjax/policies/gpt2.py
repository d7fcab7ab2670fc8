"""Reads a GPT-2 checkpoint: the shape and parameters of a `Transformer`, its Policy and its tokenizer.

Checkpoints (Radford et al. 2019) are read as Hugging Face's GPT2LMHeadModel writes them: model.safetensors and
config.json in one folder, and tokenizer.json for text. Needs the extra `lm`.

In pgjax token 0 ends a sequence and pads it; in GPT-2 id 0 is an ordinary token ("!"), and the end of a text has
another id, config.json's eos_token_id. So these two ids are exchanged, in the rows of the embedding and in the
tokenizer alike, and all others stay. A sequence can then not hold the end of a text before or between other tokens.
GPT-2 may start from that token alone; here a sequence starts with a prompt of ordinary tokens.
"""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax.dependencies import importing
from pgjax.policies import modules, transformer
from pgjax.policies.transformer import Shape, Transformer
from pgjax.types import Array, Policy, PyTree

# Fixed in a Transformer: field of config.json -> (the values allowed; the value where the field is left out).
FIXED = {
    "model_type": (("gpt2",), "gpt2"),
    "activation_function": (("gelu_new", "gelu_pytorch_tanh"), "gelu_new"),
    "layer_norm_epsilon": ((1e-5,), 1e-5),
    "scale_attn_weights": ((True,), True),
    "scale_attn_by_inverse_layer_idx": ((False,), False),
    "add_cross_attention": ((False,), False),
    "tie_word_embeddings": ((True,), True),
}


# A Transformer's names -> the checkpoint's. Its Conv1D holds weights as [in, out], as a kernel is here.
NAMES = {
    "embedding": "wte.weight",
    "position": "wpe.weight",
    "norm": "ln_f",
    "norm_attention": "ln_1",
    "qkv": "attn.c_attn",
    "project": "attn.c_proj",
    "norm_mlp": "ln_2",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
}


MASKS = (".attn.bias", ".attn.masked_bias")  # constants that older checkpoints hold: which places see which


def load(
    path: str | pathlib.Path, config: str | pathlib.Path | None = None, *, length: int | None = None
) -> tuple[Shape, PyTree]:
    """The shape of a checkpoint's Transformer, and its parameters: float32, the value head zero.

    Args:
      path: a folder with model.safetensors and config.json, or the .safetensors file itself.
      config: the config.json of a file that has none beside it.
      length: the most tokens of a sequence, where fewer than the checkpoint's n_positions will do.

    Raises:
      ValueError: where files, fields or tensors are missing or of another kind of model; in one line, with the fix.
    """
    file, config = _files(path, config)
    fields = _fields(config)
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")  # in the order of a Shape
    counts = (_count(fields, name, config) for name in names)
    whole = transformer.checked_shape(Shape._make((*counts, "learned")))
    if fields.get("n_inner") not in (None, 4 * whole.width):
        raise ValueError(_refused(config, "n_inner", fields["n_inner"], (None, 4 * whole.width)))
    length = whole.length if length is None else length
    if not 1 <= length <= whole.length:
        raise ValueError(f"length must lie between 1 and {config}'s n_positions={whole.length}, got {length}")
    end = _end(fields, config)

    tensors = _tensors(file)
    head = tensors.pop("lm_head.weight", None)
    like = jax.eval_shape(_functional(whole)[0], jax.random.key(0))

    def take(place, like):
        keys = [step.key for step in place]
        if keys[0] == "value_head":
            return np.zeros(like.shape, np.float32)
        layer, keys = (f"h.{keys[1]}.", keys[2:]) if keys[0] == "blocks" else ("", keys)
        return _taken(tensors, layer + ".".join(NAMES[key] for key in keys), like.shape, file)

    params = jax.tree_util.tree_map_with_path(take, like)
    if head is not None and not np.array_equal(np.asarray(head, np.float32), params["embedding"]):
        raise ValueError(f"{file}: lm_head.weight isn't wte.weight; only a checkpoint whose two are tied can be loaded")
    if others := sorted(name for name in tensors if not name.endswith(MASKS)):
        raise ValueError(
            f"{file}: a GPT-2 of n_layer={whole.layers} has no tensor {others[0]!r}; take it out of the file, or give "
            "the config.json that belongs to it"
        )
    params["embedding"] = params["embedding"][_exchanged(np.arange(whole.vocabulary), end)]
    params["position"] = params["position"][:length]
    return whole._replace(length=length), jax.tree.map(jnp.asarray, params)


def policy(shape: Shape, params: PyTree, prompt: int) -> Policy:
    """The Policy of a loaded model, for environments whose prompts have `prompt` tokens or fewer.

    Its `init` gives `params` for every key, so a learner starts from them; compiled, they are constants of that
    program. Observations are [B, L] tokens with L = shape.length.
    """
    if not 1 <= prompt <= shape.length:
        raise ValueError(f"prompt must lie between 1 and the length {shape.length}, got {prompt}")
    # Copies, since a training program donates its parameters.
    return transformer.policy(lambda key: jax.tree.map(jnp.array, params), _functional(shape)[1], shape, prompt)


class Tokenizer(NamedTuple):
    """Text to pgjax's tokens and back."""

    codec: Any  # a tokenizers.Tokenizer
    end: int  # the checkpoint's own id of the end of a text

    def encode(self, text: str, length: int | None = None) -> np.ndarray:
        """[n] int32, or [length] padded with zeros; ValueError where that is too short, or `text` holds the end."""
        tokens = _exchanged(np.array(self.codec.encode(text, add_special_tokens=False).ids, np.int32), self.end)
        if not np.all(tokens):
            raise ValueError(f"text holds {self.codec.id_to_token(self.end)!r}, which ends a sequence; take it out")
        if length is None:
            return tokens
        if len(tokens) > length:
            raise ValueError(f"text has {len(tokens)} tokens, more than length={length}: {text[:40]!r}")
        return np.pad(tokens, (0, length - len(tokens)))

    def decode(self, tokens: Array | np.ndarray) -> str:
        """The text of [n] tokens before the first 0."""
        tokens = np.asarray(tokens)
        tokens = tokens[: np.argmax(tokens == 0)] if np.any(tokens == 0) else tokens
        return self.codec.decode(_exchanged(tokens, self.end).tolist(), skip_special_tokens=False)


def tokenizer(folder: str | pathlib.Path) -> Tokenizer:
    """The tokenizer of a folder with tokenizer.json and the config.json that `load` reads.

    Raises:
      ValueError: where a file is missing, or the two don't fit together; in one line, with the fix.
    """
    with importing("tokenizers", "lm", "tokenizer"):
        import tokenizers
    folder = pathlib.Path(folder)
    file, config = folder / "tokenizer.json", folder / "config.json"
    fields = _fields(config)
    end = _end(fields, config)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; save the tokenizer there, as a fast one, with its save_pretrained")
    try:
        codec = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"{file}: no tokenizer can be read from it ({error}); save it once more") from error
    known, size = codec.get_vocab_size(), _count(fields, "vocab_size", config)
    if known > size or codec.id_to_token(end) is None:
        raise ValueError(
            f"{file} has {known} tokens, {config} says vocab_size={size}, eos_token_id={end}; give the tokenizer that "
            "the model was trained with"
        )
    # The codec's own settings would cut texts, or pad them with a token that isn't 0.
    codec.no_truncation()
    codec.no_padding()
    return Tokenizer(codec, end)


def _functional(shape: Shape) -> tuple[transformer.Init, transformer.Merge]:
    return modules.functional(lambda rngs: Transformer(shape, rngs=rngs), constants=False)


def _exchanged(tokens: np.ndarray, end: int) -> np.ndarray:
    """The tokens with 0 and `end` exchanged: from the checkpoint's ids to pgjax's, and back."""
    return np.where(tokens == 0, end, np.where(tokens == end, 0, tokens)).astype(np.int32)


def _files(path: str | pathlib.Path, config: str | pathlib.Path | None) -> tuple[pathlib.Path, pathlib.Path]:
    path = pathlib.Path(path)
    file = path / "model.safetensors" if path.is_dir() else path
    config = file.with_name("config.json") if config is None else pathlib.Path(config)
    if not file.is_file():
        if (sharded := file.with_name("model.safetensors.index.json")).is_file():
            raise ValueError(
                f"{sharded}: a model in shards; save it with save_pretrained(folder, max_shard_size='1TB')"
            )
        raise ValueError(f"{file}: no such file; path is a folder here, where save_pretrained put the model")
    return file, config


def _fields(config: pathlib.Path) -> dict[str, Any]:
    """config.json; ValueError where a Transformer can't be the model that it describes."""
    try:
        fields = json.loads(config.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{config}: can't be read ({error}); put the model's config.json there") from error
    fields = fields if isinstance(fields, dict) else {}
    for name, (allowed, default) in FIXED.items():
        if (value := fields.get(name, default)) not in allowed:
            raise ValueError(_refused(config, name, value, allowed))
    return fields


def _refused(config: pathlib.Path, name: str, value: Any, allowed: tuple[Any, ...]) -> str:
    choice = " or ".join(json.dumps(value) for value in allowed)
    return f"{config}: {name} must be {choice}, got {json.dumps(value)}; load a model that was trained so"


def _count(fields: dict[str, Any], name: str, config: pathlib.Path) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{config}: {name} must be a whole number of 1 or more, got {value!r}; give the model's own")
    return value


def _end(fields: dict[str, Any], config: pathlib.Path) -> int:
    value, size = fields.get("eos_token_id"), _count(fields, "vocab_size", config)
    if not isinstance(value, int) or not 0 <= value < size:
        raise ValueError(
            f"{config}: eos_token_id must be one id below vocab_size={size}, got {value!r}; give the id of a text's end"
        )
    return value


def _tensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Name -> array of every tensor in the file; the prefix of models with a head is dropped from names."""
    with importing("safetensors", "lm", "checkpoint"):
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    try:
        return {name.removeprefix("transformer."): x for name, x in load_file(file).items()}
    except SafetensorError as error:
        raise ValueError(f"{file}: no safetensors can be read from it ({error}); copy it once more") from error


def _taken(tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...], file: pathlib.Path) -> np.ndarray:
    if name not in tensors:
        raise ValueError(f"{file}: the tensor {name!r} is missing; give a GPT-2 checkpoint and its own config.json")
    x = tensors.pop(name)
    if x.shape != shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{file}: the tensor {name!r} is {x.dtype}{list(x.shape)}, expected floats {list(shape)} by config.json; "
            "give the two of one model"
        )
    return x.astype(np.float32)
