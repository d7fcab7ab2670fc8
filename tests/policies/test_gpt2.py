"""A GPT-2 checkpoint computes here what the paper says it computes, decodes with a cache alike, and reads its text."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file

from pgjax import rollout
from pgjax.envs import from_gymnax
from pgjax.envs.tokens import TokenWorld
from pgjax.policies import gpt2 as policies_gpt2
from pgjax.policies.gpt2 import _functional, tokenizer
from pgjax.policies.transformer import Shape

V, L, D, LAYERS, HEADS, END = 40, 12, 16, 2, 4, 37
CONFIG = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_embd": D,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_positions": L,
    "vocab_size": V,
    "eos_token_id": END,
}


def checkpoint(seed=0):
    """Tensors in Hugging Face's layout, small enough at first for the epsilon of a norm to be seen."""
    g = np.random.default_rng(seed)
    draw = lambda *shape, scale=0.3: (scale * g.normal(size=shape)).astype(np.float32)  # noqa: E731
    tensors = {"wte.weight": draw(V, D, scale=0.01), "wpe.weight": draw(L, D, scale=0.01)}
    sizes = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D)}
    norms = ["ln_f"]
    for i in range(LAYERS):
        norms += [f"h.{i}.ln_1", f"h.{i}.ln_2"]
        for name, size in sizes.items():
            tensors[f"h.{i}.{name}.weight"], tensors[f"h.{i}.{name}.bias"] = draw(*size), draw(size[1])
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + draw(D), draw(D)
    return tensors


def save(folder, tensors=None, prefix="", **config):
    tensors = checkpoint() if tensors is None else tensors
    save_file({prefix + name: np.ascontiguousarray(x) for name, x in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def gpt2(w, tokens):
    """Logits [t, V] of GPT-2 for its own ids [t], in float64, one place and one head at a time."""
    w = {name: x.astype(np.float64) for name, x in w.items()}

    def norm(x, name):
        centred = x - x.mean()
        return centred / math.sqrt((centred**2).mean() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    rows = [w["wte.weight"][token] + w["wpe.weight"][t] for t, token in enumerate(tokens)]
    d = D // HEADS
    for i in range(LAYERS):
        q, k, v = zip(*(np.split(dense(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3) for x in rows), strict=True)
        for t, x in enumerate(rows):
            heads = []
            for h in range(HEADS):
                part = slice(h * d, (h + 1) * d)
                e = np.exp([q[t][part] @ k[s][part] / math.sqrt(d) for s in range(t + 1)])
                heads.append(sum(e[s] / e.sum() * v[s][part] for s in range(t + 1)))
            x = x + dense(np.concatenate(heads), f"h.{i}.attn.c_proj")
            rows[t] = x + dense(gelu(dense(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj")
    return np.stack([norm(x, "ln_f") @ w["wte.weight"].T for x in rows])


def exchanged(tokens):
    """The ids of the one as those of the other, written out: 0 is the end there, END is "!" here."""
    table = list(range(V))
    table[0], table[END] = END, 0
    return np.array(table)[tokens]


def logits(shape, params, tokens):
    module = _functional(shape)[1](params)
    features, _ = module(jnp.asarray(tokens))
    return np.asarray(module.logits(features)), np.asarray(module.value(features))


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("length", [None, 7])
def test_logits_are_those_of_a_loop_written_from_the_paper(tmp_path, prefix, length):
    w = checkpoint()
    extra = {"h.0.attn.bias": np.ones((1, 1, L, L), np.float32), "h.1.attn.masked_bias": np.float32([-1e4])}
    save(tmp_path, {**w, **extra}, prefix)
    shape, params = policies_gpt2.load(tmp_path, length=length)
    assert shape == Shape(vocabulary=V, length=length or L, width=D, layers=LAYERS, heads=HEADS)
    theirs = np.random.default_rng(1).integers(0, V, (3, shape.length))
    theirs[0, :2] = 0, END
    found, value = logits(shape, params, exchanged(theirs))
    expected = np.stack([gpt2(w, row) for row in theirs])
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected[..., exchanged(np.arange(V))], atol=2e-6)
    assert not value.any()


def test_parameters_are_those_that_the_policy_would_draw(tmp_path):
    shape, params = policies_gpt2.load(save(tmp_path))
    drawn = _functional(shape)[0](jax.random.key(0))
    kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert kinds(params) == kinds(drawn)
    policy = policies_gpt2.policy(shape, params, prompt=3)
    begun = policy.init(jax.random.key(7))
    jax.tree.map(np.testing.assert_array_equal, begun, params)
    assert begun["embedding"] is not params["embedding"], "training would give the caller's own away"


def test_half_precision_and_a_tied_head_and_files_apart_load_alike(tmp_path):
    w = {name: x.astype(jnp.bfloat16) for name, x in checkpoint().items()}
    save(tmp_path, {**w, "lm_head.weight": w["wte.weight"]})
    (tmp_path / "apart").mkdir()
    moved = (tmp_path / "config.json").rename(tmp_path / "apart" / "config.json")
    _, halves = policies_gpt2.load(tmp_path / "model.safetensors", moved)
    (tmp_path / "wide").mkdir()
    _, full = policies_gpt2.load(save(tmp_path / "wide", {name: x.astype(np.float32) for name, x in w.items()}))
    jax.tree.map(np.testing.assert_array_equal, halves, full)
    assert {x.dtype for x in jax.tree.leaves(halves)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "config, message",
    [
        ({"activation_function": "relu"}, 'activation_function must be "gelu_new" or "gelu_pytorch_tanh", got "relu"'),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon must be 1e-05, got 1e-06"),
        ({"model_type": "llama"}, 'model_type must be "gpt2", got "llama"'),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be false, got true"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings must be true, got false"),
        ({"n_inner": 48}, "n_inner must be null or 64, got 48"),
        ({"n_head": 3}, "heads=3 must divide the width 16"),
        ({"n_layer": None}, "n_layer must be a whole number of 1 or more, got None"),
        ({"n_layer": 1}, "a GPT-2 of n_layer=1 has no tensor 'h.1.attn.c_attn.bias'"),
        ({"n_layer": 3}, "the tensor 'h.2.attn.c_attn.bias' is missing|the tensor 'h.2.mlp.c_proj.bias' is missing"),
        ({"vocab_size": 41}, r"the tensor 'wte.weight' is float32\[40, 16\], expected floats \[41, 16\]"),
        ({"eos_token_id": None}, "eos_token_id must be one id below vocab_size=40, got None"),
        ({"eos_token_id": V}, "eos_token_id must be one id below vocab_size=40, got 40"),
    ],
)
def test_another_kind_of_model_is_refused_by_the_field_that_says_so(tmp_path, config, message):
    save(tmp_path, **config)
    with pytest.raises(ValueError, match=message) as caught:
        policies_gpt2.load(tmp_path)
    assert "\n" not in str(caught.value)


def without(w, name):
    return {key: x for key, x in w.items() if key != name}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: without(w, "h.1.ln_2.bias"), "the tensor 'h.1.ln_2.bias' is missing"),
        (lambda w: without(w, "wpe.weight"), "the tensor 'wpe.weight' is missing"),
        (
            lambda w: {**w, "h.0.attn.c_attn.weight": w["h.0.attn.c_attn.weight"].T},
            r"'h.0.attn.c_attn.weight' is float32\[48, 16\], expected floats \[16, 48\]",
        ),
        (lambda w: {**w, "ln_f.bias": np.ones(D, np.int8)}, r"'ln_f.bias' is int8\[16\]"),
        (lambda w: {**w, "lm_head.weight": 2 * w["wte.weight"]}, "lm_head.weight isn't wte.weight"),
        (lambda w: {**w, "v_head.summary.weight": np.ones((1, D), np.float32)}, "no tensor 'v_head.summary.weight'"),
    ],
)
def test_a_tensor_that_is_missing_or_odd_is_named(tmp_path, change, message):
    save(tmp_path, change(checkpoint()))
    with pytest.raises(ValueError, match=message) as caught:
        policies_gpt2.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_whole_checkpoint_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="model.safetensors: no such file"):
        policies_gpt2.load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="index.json: a model in shards"):
        policies_gpt2.load(tmp_path)
    save(tmp_path)
    with pytest.raises(ValueError, match="length must lie between 1 and .*n_positions=12, got 13"):
        policies_gpt2.load(tmp_path, length=13)
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match="no safetensors can be read from it"):
        policies_gpt2.load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="config.json: can't be read"):
        policies_gpt2.load(tmp_path)


@pytest.mark.parametrize("package, read", [("safetensors", policies_gpt2.load), ("tokenizers", tokenizer)])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, package, read):
    save(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf'the package {package} isn.t installed; pip install -e "\.\[lm\]"'):
        read(tmp_path)


class Echo(TokenWorld):
    """Prompts of one to three tokens of all V; answers of as many as there is room for."""

    def __init__(self):
        letters = "".join(chr(0x100 + i) for i in range(1, V))
        words = [letters[i : i + 1 + i % 3] for i in range(30)]
        super().__init__([(word, (word * 9)[:8]) for word in words], "." + letters, "echo")


def test_decoding_with_the_cache_says_what_all_places_at_once_say(tmp_path):
    w = checkpoint()
    env = from_gymnax(Echo())
    shape, params = policies_gpt2.load(save(tmp_path, w), length=11)
    assert env.observation_space.shape == (11,)
    # Sharper than a random model is, so that what is said depends on what was said.
    params["norm"] = jax.tree.map(lambda x: 40 * x, params["norm"])
    policy = policies_gpt2.policy(shape, params, env.observation_space.prompt)

    @jax.jit
    def play(key):
        trajectory, _ = rollout.episodes(key, env, policy, params, 16)
        return trajectory, policy.evaluate(params, trajectory)

    trajectory, now = play(jax.random.key(0))
    counts = np.asarray(trajectory.mask) > 0
    assert counts.sum() > 60 and not counts.all(), "some answers go on to the last place, some end before"
    np.testing.assert_allclose(now.log_prob[counts], trajectory.log_prob[counts], atol=2e-5)
    for t, b in zip(*np.nonzero(counts), strict=True):
        if b < 2:
            sharp = {**w, "ln_f.weight": 40 * w["ln_f.weight"], "ln_f.bias": 40 * w["ln_f.bias"]}
            seen = np.asarray(trajectory.obs[t, b])
            expected = gpt2(sharp, exchanged(seen[seen != 0]))[-1][exchanged(np.arange(V))]
            expected = expected - np.log(np.exp(expected).sum())
            assert abs(expected[int(trajectory.action[t, b])] - float(trajectory.log_prob[t, b])) < 5e-5


TEXTS = ["the cat sat on the mat!", "a hat! a bat!", "that thé ☂"]


def codec(folder):
    """A byte-level BPE of 280 tokens in which "!" is 0 and the end is the last, and a config.json beside it."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXTS * 3, trainer)
    made.add_special_tokens(["<|endoftext|>"])
    made.enable_padding(pad_id=5, length=50)
    made.save(str(folder / "tokenizer.json"))
    end = made.token_to_id("<|endoftext|>")
    made.no_padding()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": end + 1, "eos_token_id": end}))
    return made, end


def test_text_survives_the_tokenizer_and_its_ids_are_those_of_the_embedding(tmp_path):
    made, end = codec(tmp_path)
    assert made.token_to_id("!") == 0 and end > 256
    read = tokenizer(tmp_path)
    w = checkpoint()
    w["wte.weight"] = np.random.default_rng(2).normal(size=(end + 1, D)).astype(np.float32)
    config = json.loads((tmp_path / "config.json").read_text())
    _, params = policies_gpt2.load(save(tmp_path, w, **{k: config[k] for k in ("vocab_size", "eos_token_id")}))
    for text in TEXTS:
        tokens = read.encode(text)
        assert tokens.dtype == np.int32 and tokens.all()
        assert read.decode(tokens) == text
        # Each token's row is that which the checkpoint has for the same piece of text.
        np.testing.assert_array_equal(params["embedding"][tokens], w["wte.weight"][made.encode(text).ids])
    np.testing.assert_array_equal(params["embedding"][0], w["wte.weight"][end])
    padded = read.encode("a hat!", length=20)
    assert padded.shape == (20,) and padded[-1] == 0 and read.decode(padded) == "a hat!"
    assert read.decode(np.concatenate([read.encode("a hat!"), [0], read.encode("a bat!")])) == "a hat!"
    assert read.encode("").shape == (0,) and read.decode(np.zeros(3, int)) == ""
    with pytest.raises(ValueError, match="text holds '<|endoftext|>', which ends a sequence"):
        read.encode("a hat!<|endoftext|>")
    with pytest.raises(ValueError, match="tokens, more than length=3"):
        read.encode("the cat sat on the mat!", length=3)


def test_a_tokenizer_that_is_not_the_models_is_refused(tmp_path):
    _, end = codec(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ValueError, match=f"has {end + 1} tokens, .*says vocab_size=40, eos_token_id=37"):
        tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="tokenizer.json: no tokenizer can be read from it"):
        tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="tokenizer.json: no such file"):
        tokenizer(tmp_path)
