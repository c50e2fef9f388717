"""Pretrained language models of a folder: exact log p, continuations, what a folder may hold, the
alarm around them. All weights are random and made here."""

import json

import numpy as np
import pytest
import torch
from pretrained_folders import END, altered, brute_force, language_model, tokenizer, transformers

import conjoin
from conjoin import JointClassifier, JointDensity, from_pretrained
from conjoin.codecs.sequence import Prefix
from conjoin.codecs.tokens import Tokenizer
from conjoin.core import Block, Event, Variable, stream
from conjoin.core.warnings import ColumnWarning
from conjoin.families.pretrained.text import TransformersText
from conjoin.testing import conformance
from conjoin.testing.conformance import CHECKS, run_case

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
package = transformers()

TEXTS = [
    f"{who} {what} the {thing}"
    for who in ("the cat", "a dog", "my friend", "no one")
    for what in ("sees", "hears", "likes", "paints", "moves")
    for thing in ("door", "tree", "red ball", "old house", "moon")
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Two letters and the end."""
    return language_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A tokenizer, and a network whose end is token 0; five of its tokens no text can write."""
    folder = tmp_path_factory.mktemp("words") / "model"
    size = tokenizer(folder, TEXTS)
    return language_model(folder, size + 5, 64, 0, width=16)


def letters(capacity=3):
    return Block("strings", "sequence", (capacity,), (Variable("letter", "category", 2),))


def built(folder, block=None, **settings):
    block = block or letters()
    config = TransformersText(folder=str(folder), **settings)
    return config.density.build(block, config, block.unknown(0), stream(0))


# ------------------------------------------------------------------------------- conformance


@pytest.mark.parametrize("check", CHECKS)
def test_the_conformance_suite_passes(tiny, check):
    """In float64, where its answers agree to the last digits; five steps of tuning."""
    config = TransformersText(folder=str(tiny), tune=5, rate=1e-2, dtype="float64")
    passed, detail = conformance._outcome(lambda: run_case(config, "strings", check))
    assert passed, detail


@pytest.mark.parametrize("check", ["normalisation", "step", "batches", "saving", "samples"])
def test_it_passes_as_it_is_in_single_precision(tiny, check):
    config = TransformersText(folder=str(tiny))
    passed, detail = conformance._outcome(lambda: run_case(config, "strings", check))
    assert passed, detail


LLAMA = {
    "vocab_size": 3,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 16,
    "initializer_range": 0.5,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": None,
}
OTHERS = {
    "grouped heads and rotary places": ("LlamaConfig", "LlamaForCausalLM", LLAMA),
    "a sliding window": (
        "MistralConfig",
        "MistralForCausalLM",
        {**LLAMA, "sliding_window": 2},
    ),
    "a state and no attention": (
        "MambaConfig",
        "MambaForCausalLM",
        {"vocab_size": 3, "hidden_size": 8, "num_hidden_layers": 1, "state_size": 4}
        | {"eos_token_id": 2, "bos_token_id": 2, "pad_token_id": 2, "initializer_range": 0.5},
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_any_causal_network_sums_to_one_and_steps_alike(tmp_path, other):
    from pretrained_folders import save

    config, kind, settings = OTHERS[other]
    save(getattr(package, kind), getattr(package, config)(**settings), tmp_path / "model")
    found = TransformersText(folder=str(tmp_path / "model"), dtype="float64")
    for check in ("normalisation", "step", "conditionals", "conditionals_per_row", "batches"):
        passed, detail = conformance._outcome(lambda: run_case(found, "strings", check))  # noqa: B023
        assert passed, (check, detail)


# ------------------------------------------------------------------------------- the right values


def test_log_p_is_the_networks_own(words):
    network = package.AutoModelForCausalLM.from_pretrained(words, local_files_only=True)
    model = from_pretrained(words, dtype="float64", capacity=32)
    codec = model.model_.codec
    own = []
    for text in TEXTS[:5]:
        each, end = brute_force(network.double(), codec.tokens.codes(text), 0, [0])
        own.append(sum(each) + end)
    assert np.allclose(model.score_samples(TEXTS[:5]), own, atol=1e-9)


def test_several_ends_are_one_end(tmp_path):
    folder = language_model(tmp_path / "model", vocabulary=4, end=2)
    altered(folder, "generation_config.json", eos_token_id=[2, 3])
    density = built(folder, dtype="float64")
    every = density.space.laid.every(density.space)
    assert abs(float(density.log_prob(every).logsumexp(0))) < 1e-9
    network = package.AutoModelForCausalLM.from_pretrained(folder).double()
    _, end = brute_force(network, [], 2, [2, 3])
    empty = Event(torch.zeros(1, 1).long(), torch.ones(1, 1).bool(), torch.zeros(1, 1).bool())
    assert abs(float(density.log_prob(empty)[0]) - end) < 1e-9


def test_a_token_that_ends_a_text_has_no_probability_inside(tmp_path):
    folder = language_model(tmp_path / "model", vocabulary=3, end=0)
    block = Block("strings", "sequence", (2,), (Variable("letter", "category", 3),))
    density = built(folder, block, dtype="float64")
    every = block.laid.every(block)
    log_p = density.log_prob(every)
    inside = ((every.value == 0) & every.there).any(1)
    assert bool((log_p[inside] == -torch.inf).all()) and bool(log_p[~inside].isfinite().all())
    assert abs(float(log_p.logsumexp(0))) < 1e-9
    drawn = density.sample(200, generator=stream(0))
    assert not bool(((drawn.value == 0) & drawn.there).any())
    _, log_next = density.step(density.begin(1))
    assert log_next[0, 0] == -torch.inf and abs(float(log_next.logsumexp(1))) < 1e-9


def test_a_beginning_that_all_rows_share_is_seen_in_one_call(tiny):
    block = letters(6)
    density = built(tiny, block, dtype="float64")
    known = Event(torch.tensor([[0, 1, 1, 0]] * 300), present=torch.ones(300, 4).bool())
    beginning = known._replace(observed=known.present)
    wide = block.unknown(300)
    mask = wide.mask.clone()
    mask[:, :4] = True
    value = wide.value.clone()
    value[:, :4] = beginning.value
    question = Event(value, mask, mask)
    calls = []
    density.net.register_forward_pre_hook(lambda *_: calls.append(1))
    drawn = density.sample_conditional(question, generator=stream(0))
    assert len(calls) <= 1 + 2  # the beginning but its last token, then the places that are left
    assert bool((drawn.value[:, :4] == known.value).all())
    every = block.laid.every(block)
    like = (every.value[:, :4] == known.value[0]).all(1) & every.there[:, :4].all(1)
    p = density.log_prob(every.take(like)).softmax(0)
    lengths = drawn.there.sum(1).double()
    truth = float((p * every.take(like).there.sum(1)).sum())
    spread = float(lengths.std() / 300**0.5)
    assert abs(float(lengths.mean()) - truth) < 4 * spread + 1e-3


def test_a_state_goes_on_twice_from_where_it_was(tiny):
    density = built(tiny, dtype="float64")
    state, _ = density.step(density.begin(2))
    once, one = density.step(state, torch.tensor([0, 1]))
    density.step(once, torch.tensor([1, 1]))
    _, again = density.step(state, torch.tensor([0, 1]))
    assert torch.equal(one, again)
    _, part = density.step(state.take(torch.tensor([1])), torch.tensor([1]))
    assert torch.allclose(part[0], one[1], atol=1e-12)


# ------------------------------------------------------------------------------- strings


def test_text_that_reads_like_a_special_token_is_text(words):
    read = Tokenizer.in_folder(words)
    said = f"a {END} b"
    assert 0 not in read.codes(said) and read.text(read.codes(said)) == said
    again = Tokenizer.from_json(json.loads(json.dumps(read.to_json())))
    assert again.codes(said) == read.codes(said) and again.names == read.names


def test_a_string_that_the_tokenizer_changes_is_refused(words, tmp_path):
    saved = json.loads((words / "tokenizer.json").read_text())
    lower = Tokenizer(json.dumps({**saved, "normalizer": {"type": "Lowercase"}}), 300)
    assert lower.text(lower.codes("the cat")) == "the cat"
    with pytest.raises(ValueError, match="writes 'The cat' as 'the cat'"):
        lower.codes("The cat")


def test_draws_are_continued_and_saved_models_answer_alike(words, tmp_path):
    model = from_pretrained(words, capacity=24)
    with pytest.warns(ColumnWarning, match="continued behind its own tokens"):
        drawn, _ = model.sample(3, given={"text": Prefix("the cat")}, random_state=0)
    assert all(text.startswith("the cat") for text in drawn)
    model.save(tmp_path / "saved")
    again = conjoin.load(tmp_path / "saved")
    assert np.array_equal(again.score_samples(TEXTS[:4]), model.score_samples(TEXTS[:4]))
    assert again.sample(2, random_state=1)[0] == model.sample(2, random_state=1)[0]
    assert model.status_ == {**model.status_, "log_prob": "lower bound", "sample": "exact"}


def test_the_alarm_is_calibrated_on_rows_of_ones_own(words):
    rng = np.random.default_rng(0)
    model = from_pretrained(words, TEXTS, capacity=32, random_state=0)
    odd = ["".join(map(chr, rng.integers(33, 126, 24))) for _ in range(40)]
    verdicts = model.decide(odd, false_alarm=0.1, reasons=False)["verdict"]
    assert (verdicts == "unfamiliar").mean() > 0.9
    assert (model.decide(TEXTS, false_alarm=0.1, reasons=False)["verdict"] == "accept").mean() > 0.7
    bare = from_pretrained(words, capacity=32)
    with pytest.raises(ValueError, match="no calibration rows"):
        bare.decide(odd)
    bare.calibrate(TEXTS)
    assert set(bare.decide(TEXTS, reasons=False)["verdict"]) <= {"accept", "unfamiliar"}


def types_of(folder):
    return {"text": {"type": "text", "format": f"tokenizer {folder}"}}


def test_a_fit_leaves_the_weights_as_they_are_unless_they_are_to_be_tuned(words):
    before = built_of(words)
    config = TransformersText(folder=str(words))
    model = JointDensity(family=config, types=types_of(words)).fit(TEXTS)
    assert model.model_.card["trained"]["stopped"].startswith("there was nothing to learn")
    after = dict(model.model_.joint.net.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    tuned = JointDensity(family=config.set_params(tune=40, rate=1e-2), types=types_of(words)).fit(
        TEXTS
    )
    assert tuned.score(TEXTS) > model.score(TEXTS) + 5


def built_of(folder):
    network = package.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def test_both_alarms_work_around_a_frozen_language_model(words, tmp_path):
    """p(y | x) is learned on the network's features, p(x) is its own."""
    texts = [f"{text}{mark}" for text in TEXTS for mark in (" now", " soon", " again")]
    label = np.array(["cat" if "cat" in text else "other" for text in texts])
    model = JointClassifier(family=TransformersText(folder=str(words)), types=types_of(words)).fit(
        texts, label
    )
    assert model.model_.state.predictor == "features"
    table = model.decide(texts, max_error=0.2, false_alarm=0.1, reasons=False)
    accepted = table["verdict"] == "accept"
    assert accepted.mean() > 0.5
    assert (table.loc[accepted, "answer"] == label[accepted]).mean() > 0.8
    odd = ["#" * 5 + "%&!" * 6 + str(place) for place in range(40)]
    verdicts = model.decide(odd, max_error=0.2, false_alarm=0.1, reasons=False)["verdict"]
    assert (verdicts == "unfamiliar").mean() > 0.9
    model.save(tmp_path / "saved")
    again = conjoin.load(tmp_path / "saved")
    assert np.allclose(again.predict_proba(texts[:5]), model.predict_proba(texts[:5]), atol=1e-9)


# ------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    return language_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "more/optimizer.pt", "x.ckpt", "y.PKL"])
def test_a_folder_with_a_pickle_is_refused(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=rf"{name}.* may hold a pickle, which can run any code"):
        built(folder)


@pytest.mark.parametrize("name", ["modeling_mine.py", "more/help.so"])
def test_a_folder_with_code_is_refused(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("raise SystemExit")
    with pytest.raises(ValueError, match="is code, and code that comes with weights is never run"):
        built(folder)


def test_a_config_that_names_code_is_refused(folder):
    altered(folder, auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    with pytest.raises(ValueError, match=r"config\.json has 'auto_map', which names code"):
        built(folder)
    (folder / "tokenizer_config.json").write_text('{"auto_map": {}}')
    altered(folder)
    with pytest.raises(ValueError, match="'auto_map'"):
        Tokenizer.in_folder(folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"n_layer": 10**9}, r"n_layer=1,000,000,000, where the weights beside it are 16 tensors"),
        ({"n_embd": 10**12}, r"n_embd=1,000,000,000,000"),
        ({"vocab_size": 10**9}, "asks for a network of"),
        ({"n_positions": 10**10}, r"n_positions=10,000,000,000"),
        ({"vocab_size": 1000, "n_embd": 64}, "asks for a network of"),
        ({"n_layer": 2}, "asks for a network of"),
    ],
)
def test_a_network_larger_than_its_weights_is_refused_before_memory_is_taken(
    folder, entries, words
):
    altered(folder, **entries)
    with pytest.raises(ValueError, match=words):
        built(folder)


def test_weights_that_are_missing_are_not_made_up(folder):
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    name = next(key for key in held if key.endswith("c_proj.weight"))
    held["other"] = held.pop(name)
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack .*c_proj\.weight"):
        built(folder)


def test_damaged_weights_are_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        built(folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"model_type": "mine"}, "model_type='mine', which the installed version"),
        ({"eos_token_id": None}, "tells no eos_token_id: without an end"),
        ({"eos_token_id": 7}, "the token 7 that ends or begins a text is none of the 3"),
        ({"quantization_config": {"bits": 4}}, "quantized weights are not read"),
    ],
)
def test_a_config_that_fits_no_language_model_is_refused(folder, entries, words):
    (folder / "generation_config.json").unlink()
    altered(folder, **entries)
    with pytest.raises(ValueError, match=words):
        built(folder)


def test_a_network_that_sees_ahead_is_no_density(tmp_path):
    from pretrained_folders import save

    config = package.BertConfig(
        vocab_size=3,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
        initializer_range=0.5,
        eos_token_id=2,
        bos_token_id=2,
        pad_token_id=0,
    )
    save(package.BertLMHeadModel, config, tmp_path / "model")
    with pytest.raises(ValueError, match="is no causal language model"):
        built(tmp_path / "model")


def test_what_does_not_fit_the_network_is_told(folder, tmp_path):
    with pytest.raises(ValueError, match=r"up to 40 tokens, and the network .* at most 16"):
        built(folder, letters(40))
    many = Block("strings", "sequence", (3,), (Variable("letter", "category", 9),))
    with pytest.raises(ValueError, match=r"made of 9 tokens where the network .* has 3"):
        built(folder, many)
    with pytest.raises(ValueError, match="is no folder on this machine"):
        built(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        from_pretrained(folder)
    with pytest.raises(ValueError, match="start=5 is none of the 3 tokens"):
        built(folder, start=5)
    with pytest.raises(ValueError, match="dtype must be one of"):
        TransformersText(dtype="int8")
