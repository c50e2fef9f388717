"""Language models of the Llama layout without transformers: the right values, few bits, states that
are cut, the prefix cache, what is saved. All weights are random and made here."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from language_models import TEMPLATE, TEXTS, folder_of, gguf_of, trained_tokenizer

import conjoin
from conjoin import from_pretrained
from conjoin.codecs.tokens import Tokenizer, special_tokens
from conjoin.core import Block, Event, Variable, stream
from conjoin.families.pretrained import language
from conjoin.families.pretrained.language import Language
from conjoin.nets import packed
from conjoin.serving.continuation import Continuation, Wish
from conjoin.serving.opening import opened
from conjoin.serving.prefixes import Prefixes
from conjoin.serving.talk import TextModel
from conjoin.testing import conformance
from conjoin.testing.conformance import run_case
from conjoin.util.gguf import GGUF
from conjoin.util.gguf_words import tokenizer_in_file

gguf = pytest.importorskip("gguf", reason="needs the extra: pip install 'conjoin[chat]'")
VOCABULARY = 40
SIZE = trained_tokenizer().get_vocab_size()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Two letters and the end."""
    sizes = {"width": 8, "hidden": 16, "heads": 2, "key_heads": 1, "positions": 16}
    return folder_of(tmp_path_factory.mktemp("tiny") / "model", 3, end=2, **sizes)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Four bits, the embedding in eight."""
    return gguf_of(tmp_path_factory.mktemp("file") / "tiny.gguf", "Q4_1", "Q8_0")


def strings(capacity=24, letters=VOCABULARY):
    return Block("strings", "sequence", (capacity,), (Variable("letter", "category", letters),))


def built(folder, block=None, **settings):
    block = block or strings()
    config = Language(folder=str(folder), **settings)
    return config.density.build(block, config, block.unknown(0), stream(0))


def rows_of(block, lengths=(24, 11, 4, 0), letters=VOCABULARY):
    there = torch.arange(block.shape[0]) < torch.tensor(lengths)[:, None]
    value = torch.randint(3, letters, there.shape, generator=stream(0, "rows"))
    return Event(value * there, None, there)


def stepped(density, codes):
    """log p of a string and its end, token by token."""
    state, log_p = density.step(density.begin(1))
    total = 0.0
    for code in codes:
        total += float(log_p[0, code])
        state, log_p = density.step(state, torch.tensor([code]))
    return total + float(log_p[0, -1])


# ------------------------------------------------------------------------------- the right values


@pytest.mark.parametrize("check", ["normalisation", "step", "conditionals", "batches", "saving"])
def test_the_conformance_suite_passes(tiny, check):
    config = Language(folder=str(tiny), precision="float64")
    passed, detail = conformance._outcome(lambda: run_case(config, "strings", check))
    assert passed, detail


STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
@pytest.mark.parametrize("more", [{}, {"tied": False}, {"rope_parameters": STRETCHED}])
def test_log_p_and_greedy_tokens_are_those_of_transformers(tmp_path, more):
    pytest.importorskip("transformers", reason="needs pip install 'conjoin[pretrained]'")
    from conjoin.families.pretrained.text import TransformersText

    folder = folder_of(tmp_path / "model", VOCABULARY, **more)
    block = strings()
    config = TransformersText(folder=str(folder))
    other = config.density.build(block, config, block.unknown(0), stream(0))
    lean = built(folder)
    rows = rows_of(block)
    assert torch.allclose(lean.log_prob(rows), other.log_prob(rows), atol=1e-4, rtol=0)
    question = block.unknown(2)
    assert torch.equal(lean.mode(question).value, other.mode(question).value)
    assert torch.allclose(lean.features(rows), other.features(rows), atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
def test_token_by_token_is_the_whole(file, precision):
    """In few bits to the bit, as each row of a product is computed by itself; where this machine
    computes such products in float32, as nearly as in that."""
    density = built(file, strings(40, SIZE), precision=precision)
    codes = torch.randint(3, SIZE, (30,), generator=stream(1, "codes")).tolist()
    there = (torch.arange(40) < 30)[None]
    value = F.pad(torch.tensor([codes]), (0, 10))
    whole = float(density.log_prob(Event(value, None, there))[0])
    exact = precision != "float32" and packed.is_worth(int(precision.removeprefix("int")))
    far = 1e-9 if exact else 1e-3
    assert abs(stepped(density, codes) - whole) < far
    beside = Event(value.repeat(5, 1), None, there.repeat(5, 1))
    assert abs(float(density.log_prob(beside)[3]) - whole) < far


def test_a_state_goes_on_twice_and_is_cut(tiny):
    density = built(tiny, strings(12, 2), precision="float64")
    state, _ = density.step(density.begin(2))
    once, one = density.step(state, torch.tensor([0, 1]))
    further, _ = density.step(once, torch.tensor([1, 1]))
    _, again = density.step(state, torch.tensor([0, 1]))
    assert torch.equal(one, again)
    _, part = density.step(state.take(torch.tensor([1])), torch.tensor([1]))
    assert torch.allclose(part[0], one[1], atol=1e-12)
    _, cut = density.step(further.cut(0), torch.tensor([0, 1]))
    assert torch.allclose(cut, one, atol=1e-12)


def test_a_memory_grows_as_it_is_needed(file):
    density = built(file, strings(150, SIZE))
    codes = torch.randint(3, SIZE, (140,), generator=stream(2, "codes"))
    state, log_p = density.step(density.begin(1))
    assert state.cache.held.shape[4] == 64
    state, log_p, told = density.follow(state, log_p, codes[None])
    assert state.cache.held.shape[4] >= 141
    assert abs(float(told.sum() + log_p[0, -1]) - stepped(density, codes.tolist())) < 1e-3


# ------------------------------------------------------------------------------- GGUF


def test_a_file_and_a_folder_of_the_same_weights_answer_alike(tmp_path):
    tokenizer = trained_tokenizer()
    count = tokenizer.get_vocab_size()
    one = built(folder_of(tmp_path / "folder", count, end=2), strings(24, count), start=0)
    two = built(gguf_of(tmp_path / "tiny.gguf"), strings(24, count))
    rows = rows_of(one.space, letters=count)
    assert torch.allclose(one.log_prob(rows), two.log_prob(rows), atol=1e-6)
    assert two.structure["ends"] == [2] and two.structure["start"] == 0


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_four_bits_are_not_rounded_again(tmp_path, kind):
    """The numbers of the file, to the bit; computed near to them."""
    path = gguf_of(tmp_path / "tiny.gguf", kind, "Q8_0")
    small = built(path, strings(24, SIZE))
    whole = built(path, strings(24, SIZE), precision="float32")
    assert small.structure["kinds"]["layers.1.gated"] == "int4"
    assert small.structure["kinds"]["embed"] == "int8"
    for name in ("queried", "attended", "gated", "lowered"):
        one = small.net.get_submodule(f"layers.1.{name}").weight()
        assert torch.equal(one, whole.net.get_submodule(f"layers.1.{name}").weight())
    rows = rows_of(small.space, letters=SIZE)
    apart = (small.log_prob(rows) - whole.log_prob(rows)).abs()
    assert bool((apart <= 0.02 * whole.log_prob(rows).abs() + 0.1).all())


def test_other_ways_of_storing_are_read_as_numbers(tmp_path):
    path = gguf_of(tmp_path / "tiny.gguf", "F16", "F16")
    density = built(path, strings(24, SIZE))
    assert set(density.structure["kinds"].values()) == {"float32"}
    held = GGUF(path)
    found = gguf.quants.dequantize(held.raw("token_embd.weight"), gguf.GGMLQuantizationType.F16)
    assert np.array_equal(density.net.embed.weight().numpy(), found)


def test_the_tokenizer_of_a_file_is_the_one_it_was_made_with(file):
    own = trained_tokenizer()
    read = Tokenizer.in_folder(file)
    for said in [*TEXTS[:20], "Größe 17.5 €", "  two  blanks\n", "naïve 日本"]:
        assert read.codes(said) == own.encode(said, add_special_tokens=False).ids
        assert read.text(read.codes(said)) == said
    assert special_tokens(read) == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    assert 2 not in read.codes("<|im_end|>")  # what people write is no mark


def test_digits_are_cut_as_smollm_does(tmp_path):
    read = Tokenizer.in_folder(gguf_of(tmp_path / "a.gguf", tokenizer__ggml__pre="smollm"))
    assert len(read.codes("1234")) == 4


# ------------------------------------------------------------------------------- few bits


@pytest.mark.parametrize("outputs", [32, 40, 340])
def test_products_of_few_bits_are_near_those_of_float32(outputs):
    noise = stream(0, "products")
    weight = torch.randn(outputs, 96, generator=noise)
    x = torch.randn(7, 96, generator=noise)
    x[6, :3] = torch.tensor([32639.0, 128.0, -128.0])  # where the digits of int8 change
    for kind, rounded, far in (
        ("int4", packed.round_to_int4(weight), 0.02),
        ("int8", packed.round_to_int8(weight), 1e-4),
    ):
        layer = packed.made_linear(kind, outputs, 96)
        for held, value in zip(layer.buffers(), rounded, strict=True):
            held.copy_(value)
        right = F.linear(x, layer.weight())
        found = layer._product(x, layer._prepared()).float()
        assert float((found - right).abs().max()) < far * float(right.abs().max())
        for rows in ((0, 1), (1, 3), (2, 7)):  # each row by itself, to the bit
            part = layer._product(x[slice(*rows)], layer._prepared()).float()
            assert torch.equal(part, found[slice(*rows)])
        codes = torch.tensor([[3, 0], [1, 30]])
        assert torch.equal(layer.rows(codes), layer.weight()[codes])


def test_rounding_loses_what_it_should():
    weight = torch.randn(64, 96, generator=stream(0, "rounding"))
    groups = weight.unflatten(1, (-1, 32))
    step = (groups.amax(2) - groups.amin(2)) / 15
    layer = packed.made_linear("int4", 64, 96)
    for held, value in zip(layer.buffers(), packed.round_to_int4(weight), strict=True):
        held.copy_(value)
    apart = (layer.weight() - weight).abs().unflatten(1, (-1, 32)).amax(2)
    assert bool((apart <= 0.5 * step + 0.01).all())
    same = packed.round_to_int8(torch.zeros(3, 8))
    assert not bool(same[0].any()) and not bool(same[1].any())


def test_a_kernel_that_is_slower_or_wrong_is_not_taken(file, monkeypatch):
    monkeypatch.setattr(packed, "is_worth", lambda bits: False)
    slow = built(file, strings(24, SIZE))
    rows = rows_of(slow.space, letters=SIZE)
    plain = built(file, strings(24, SIZE), precision="float32")
    plain.net.embed.values.data.copy_(slow.net.embed.weight())
    assert torch.allclose(slow.log_prob(rows), plain.log_prob(rows), atol=1e-3)


@pytest.mark.filterwarnings("error")
def test_few_bits_that_lose_too_much_are_refused(file, monkeypatch):
    model = from_pretrained(file, TEXTS, capacity=64, precision="int8")
    assert model.model_.joint.structure["rise"] <= language.MAX_NLL_RISE
    assert any("int8" in notice for notice in model.model_.card["notices"])
    monkeypatch.setattr(language, "MAX_NLL_RISE", -1.0)
    with pytest.raises(ValueError, match=r"precision='int8': a token surprises by .* more"):
        from_pretrained(file, TEXTS, capacity=64, precision="int8")
    stays = from_pretrained(file, TEXTS, capacity=64)
    assert set(stays.model_.joint.structure["kinds"].values()) == {"float32"}
    assert any("would surprise by" in notice for notice in stays.model_.card["notices"])


def test_saved_models_answer_alike_and_need_the_file_no_more(file, tmp_path):
    model = from_pretrained(file, capacity=64)
    model.save(tmp_path / "saved")
    told = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "int4" in told["joint"]["structure"]["kinds"].values()
    again, template = opened(tmp_path / "saved")
    assert np.array_equal(again.score_samples(TEXTS[:4]), model.score_samples(TEXTS[:4]))
    assert template.source == TEMPLATE
    assert opened(file, capacity=64)[1].source == TEMPLATE
    with pytest.raises(ValueError, match="precision is of pretrained models"):
        opened(tmp_path / "saved", precision="int4")


def test_settings_are_checked_by_name(file):
    with pytest.raises(ValueError, match="precision must be one of auto, float32"):
        from_pretrained(file, precision="int3")
    with pytest.raises(ValueError, match="start=999 is none of the"):
        from_pretrained(file, start=999)


# ------------------------------------------------------------------------------- the prefix cache

FIRST = {"role": "user", "content": "the cat sees the door"}
SECOND = {"role": "user", "content": "a dog likes the moon"}


@pytest.fixture(scope="module")
def talking(file):
    return from_pretrained(file, capacity=150, precision="float64")


def answered(texts, turns, prefixes=None, **wish):
    codes = texts.codes_of_turns(turns)
    wish = Wish(**{"max_tokens": 12, "temperature": 0.0, **wish})
    writing = Continuation(texts.density, texts.tokens, codes, wish, prefixes)
    chunks = []
    while not writing.done:
        chunks += writing.advance(0.0)
    return writing, chunks


def told(chunks):
    """The text, and all numbers."""
    pieces = [piece for chunk in chunks for piece in chunk.pieces]
    return "".join(chunk.text for chunk in chunks), [piece.log_p for piece in pieces]


def templated(model):
    from conjoin.codecs.templates import template_from

    return TextModel(model.model_, template_from(model.model_.joint.structure["template"]))


def test_the_next_turn_reads_only_what_is_new(talking):
    texts = templated(talking)
    kept = Prefixes(texts.density)
    _, first = answered(texts, [FIRST], kept)
    assert kept.reused == 0
    said = {"role": "assistant", "content": told(first)[0]}
    turns = [FIRST, said, SECOND]
    before = kept.reused
    again, second = answered(texts, turns, kept)
    codes = texts.codes_of_turns(turns)
    assert kept.reused - before >= len(texts.codes_of_turns([FIRST]))
    plain, alone = answered(texts, turns)
    assert told(second)[0] == told(alone)[0]
    assert np.allclose(told(second)[1], told(alone)[1], atol=1e-6)
    assert len(again.told) == len(codes)
    assert np.allclose(again.told, plain.told, atol=1e-6)


@pytest.mark.parametrize("wish", [{"choices": 3, "temperature": 1.0}, {"max_tokens": 0}])
def test_what_is_kept_changes_no_answer(talking, wish):
    texts = templated(talking)
    kept = Prefixes(texts.density)
    answered(texts, [SECOND], kept, **wish)
    for turns in ([SECOND], [FIRST], [SECOND, {"role": "assistant", "content": "no"}, FIRST]):
        one, with_it = answered(texts, turns, kept, **wish)
        two, without = answered(texts, turns, **wish)
        assert told(with_it)[0] == told(without)[0]
        assert np.allclose(told(with_it)[1], told(without)[1], atol=1e-6)
        assert np.allclose(one.told, two.told, atol=1e-6)
    assert kept.reused > 0


def test_in_few_bits_cached_is_the_same_to_the_bit(file):
    texts = templated(from_pretrained(file, capacity=150))
    kept = Prefixes(texts.density)
    answered(texts, [FIRST], kept)
    turns = [FIRST, {"role": "assistant", "content": "the moon"}, SECOND]
    assert told(answered(texts, turns, kept)[1]) == told(answered(texts, turns)[1])
    assert kept.reused > 0


def test_memory_of_what_was_read_is_bounded(talking):
    texts = templated(talking)
    kept = Prefixes(texts.density, most_bytes=1)
    answered(texts, [FIRST], kept)
    assert kept._held == []


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_networks_of_transformers_keep_it_too(tmp_path):
    pytest.importorskip("transformers", reason="needs pip install 'conjoin[pretrained]'")
    from conjoin.families.pretrained.text import TransformersText

    block = strings(60)
    config = TransformersText(folder=str(folder_of(tmp_path / "m", VOCABULARY)), dtype="float64")
    density = config.density.build(block, config, block.unknown(0), stream(0))
    kept = Prefixes(density)
    codes = torch.randint(3, VOCABULARY, (40,), generator=stream(3, "codes")).tolist()
    kept.read(codes[:30])
    _, log_p, each = kept.read(codes)
    assert kept.reused == 30
    _, right, plain = Prefixes(density, 0).read(codes)
    assert torch.allclose(log_p, right, atol=1e-9) and np.allclose(each, plain, atol=1e-9)


def test_the_library_answers_from_a_file(file):
    model = conjoin.from_pretrained(str(file), TEXTS, capacity=64)
    verdicts = model.decide(TEXTS[:5], reasons=False)["verdict"]
    assert set(verdicts) <= {"accept", "unfamiliar"}
    assert len(model.sample(2, random_state=0)[0]) == 2


@pytest.mark.parametrize(("cut", "codes"), [("llama-bpe", [5]), ("qwen2", [4, 2])])
def test_llama_3_looks_a_whole_word_up_before_it_merges(cut, codes):
    """ "abc" is a token that the one merge, of a and b, does not reach."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra: conjoin[chat]")
    tokens = ["<end>", "b", "c", "a", "ab", "abc"]
    facts = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1],
        "tokenizer.ggml.merges": ["a b"],
    }
    written = tokenizer_in_file(SimpleNamespace(path="tiny.gguf", facts=facts))
    read = tokenizers.Tokenizer.from_str(written)
    assert read.encode("abc").ids == codes
    assert read.encode("ab").ids == [4]
    assert read.decode(codes) == "abc"
