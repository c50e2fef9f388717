"""Counts of grams: exact sums, agreement with dictionaries of counts, strings left out, draws that
follow log p, classes, and the way from a list of strings to a saved model."""

import collections
import gzip
import hashlib

import numpy as np
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.codecs.sequence import Prefix
from conjoin.core import Block, CapabilityError, Event, RecordSpace, Space, Variable, stream
from conjoin.datasets import load_texts
from conjoin.families.classic.kneser_ney import Counts, discounted, discounts
from conjoin.families.classic.left_out import orders_left_out
from conjoin.families.classic.ngram import Ngram, NgramDensity
from conjoin.families.classic.ngram_trie import Trie, grams_of, stream_of

LETTERS = 3
WORD = Block("word", "sequence", (4,), (Variable("letter", "category", LETTERS),))
CLASSES = Space((), (Variable("label", "category", 2),))
END = "$"


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def event_of(strings, width):
    value = torch.zeros(len(strings), width, dtype=torch.int64)
    there = torch.zeros(len(strings), width, dtype=torch.bool)
    for row, string in enumerate(strings):
        value[row, : len(string)] = torch.tensor([ord(letter) - 97 for letter in string])
        there[row, : len(string)] = True
    return Event(value, None, there)


def drawn_words(rows=60, seed=0, most=4):
    """Strings in which an a is followed by a b, mostly."""
    rng = np.random.default_rng(seed)
    words = []
    for _ in range(rows):
        word = ""
        while len(word) < most and rng.random() < 0.85:
            after_a = word[-1:] == "a" and rng.random() < 0.7
            word += "b" if after_a else rng.choice(list("abc"))
        words.append(word)
    return words


def built(words, weight=None, config=None, space=WORD, **more):
    weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    event = event_of(words, space.shape[0])
    config = config or Ngram()
    return NgramDensity.build(space, config, event, stream(0), weight=weight, **more)


@pytest.fixture(scope="module")
def classy():
    """A model given a class: one class writes a and b, the other b and c; some labels missing."""
    words = drawn_words(80)
    label = torch.tensor([float("c" in word) for word in words]).double()
    known = torch.arange(80) % 5 > 0
    with torch.no_grad():
        return built(words, context=Event(label, known), context_space=CLASSES)


# --------------------------------------------------------------- against dictionaries of counts


def slow_discounts(counts):
    often = collections.Counter(counts)
    if not all(often[each] for each in (1, 2, 3, 4)):
        return 0.5, 1.0, 1.5
    y = often[1] / (often[1] + 2 * often[2])
    found = tuple(each - (each + 1) * y * often[each + 1] / often[each] for each in (1, 2, 3))
    sound = all(0 < d < each for d, each in zip(found, (1, 2, 3), strict=True))
    return found if sound else (0.5, 1.0, 1.5)


class Slow:
    """Modified Kneser-Ney with dictionaries, term by term."""

    def __init__(self, words, weight, order, letters, capacity):
        self.order = order
        self.letters = letters
        self.capacity = capacity
        longest = order + 1
        raw = collections.Counter()
        for word, times in zip(words, weight, strict=True):
            text = "^" + word + (END if len(word) < capacity else "")
            for end in range(1, len(text) + 1):
                for start in range(max(0, end - longest), end):
                    raw[text[start:end]] += times
        self.count = {}
        for gram, times in raw.items():
            if gram == "^":
                continue
            before = {other[0] for other in raw if other[1:] == gram and len(other) <= longest}
            whole = len(gram) == longest or gram[0] == "^"
            self.count[gram] = times if whole else len(before)
        self.discount = {
            length: slow_discounts([c for gram, c in self.count.items() if len(gram) == length])
            for length in range(1, longest + 1)
        }

    def cost(self, gram):
        return self.discount[len(gram)][min(self.count[gram], 3) - 1]

    def p(self, token, context):
        lower = 1 / (self.letters + 1) if not context else self.p(token, context[1:])
        grams = [g for g in self.count if g[:-1] == context and len(g) == len(context) + 1]
        total = sum(self.count[gram] for gram in grams)
        if not total:
            return lower
        gram = context + token
        seen = self.count[gram] - self.cost(gram) if gram in self.count else 0.0
        return (seen + sum(map(self.cost, grams)) * lower) / total

    def log_p(self, word):
        text = "^" + word + (END if len(word) < self.capacity else "")
        return sum(
            np.log(self.p(text[t], text[max(0, t - self.order) : t])) for t in range(1, len(text))
        )


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_without_learning_it_is_modified_kneser_ney(order):
    words = drawn_words(70)
    weight = [1 + row % 2 for row in range(70)]
    density = built(words, weight, Ngram(order, learned=False))
    asked = ["", "a", "ab", "cab", "abab", "cccc", "bca"]
    slow = Slow(words, weight, order, LETTERS, 4)
    assert slow.discount[1] == slow_discounts([slow.count[g] for g in slow.count if len(g) == 1])
    found = density.log_prob(event_of(asked, 4))
    assert torch.allclose(found, torch.tensor([slow.log_p(word) for word in asked]), atol=1e-6)


def test_discounts_are_those_of_chen_and_goodman():
    counts = torch.tensor([1.0] * 8 + [2.0] * 4 + [3.0] * 2 + [4.0] + [9.0]).double()
    assert torch.allclose(discounts(counts), torch.tensor(slow_discounts(counts.tolist())).double())
    assert discounts(torch.ones(5).double()).tolist() == [0.5, 1.0, 1.5]  # no count of 2


def test_a_discount_is_less_than_its_count_whatever_the_weight():
    count = torch.linspace(0, 6, 61).double()
    cost = discounted(count, torch.tensor([0.7, 1.2, 1.6]).double())
    whole = discounted(torch.tensor([1.0, 2.0, 3.0, 8.0]).double(), torch.tensor([0.7, 1.2, 1.6]))
    assert torch.allclose(whole, torch.tensor([0.7, 1.2, 1.6, 1.6]).double())
    assert (cost[1:] < count[1:]).all()
    assert (cost.diff() >= 0).all()


def test_a_string_left_out_is_a_model_without_it():
    """All that each order knows of a row's tokens is what it knows where the row never was."""
    words = [*drawn_words(40), "abca", "cc", ""]
    weight = torch.tensor([1.0 + row % 3 for row in range(len(words))]).double()
    label = torch.tensor([float(row % 2) for row in range(len(words))]).double()
    told = {"context": Event(label), "context_space": CLASSES}
    config = Ngram(2, learned=False)
    density = built(words, weight.tolist(), config, **told)
    rows = density._stream(event_of(words, 4))
    known = Counts(density._trie, density.count, density.discount, density._known, density.in_class)
    found = orders_left_out(known, rows, weight, label.long())
    place = rows.row[~rows.begins]
    for row in (0, 7, 40, 41, 42):
        keep = torch.arange(len(words)) != row
        other = built(words, weight.tolist(), config, **told)
        count = other._counted(rows, weight * keep)
        other._maximise({"count": count, "share": torch.ones(2).double()})
        other._count_classes(rows, weight * keep, label.long())
        other.discount.copy_(density.discount)  # these are those of all rows
        other._contexts = None
        alone = rows.row == row
        part = stream_of(event_of([words[row]], 4), LETTERS, 4)
        own = torch.full((int((~part.begins).sum()), 1), int(label[row]))
        for left_out, without in zip(found, other._orders(part, own), strict=True):
            assert bool(alone.any())
            for one, two in zip(left_out, without, strict=True):
                assert torch.allclose(one[place == row], two, atol=1e-6)


# ------------------------------------------------------------------------------------- exact sums


def test_all_strings_sum_to_one_and_none_is_impossible():
    density = built(drawn_words())
    log_p = density.log_prob(WORD.laid.every(WORD))
    assert log_p.logsumexp(0).abs() < 1e-9
    assert torch.isfinite(log_p).all()


@pytest.mark.parametrize("label", [0, 1, None])
def test_all_strings_sum_to_one_given_a_class(classy, label):
    every = WORD.laid.every(WORD)
    context = None if label is None else Event(torch.full((every.rows,), float(label)).double())
    assert classy.log_prob(every, context).logsumexp(0).abs() < 1e-9


def test_a_class_that_was_never_labelled_is_the_model_of_all():
    words = drawn_words()
    label = Event(torch.zeros(len(words)).double())
    density = built(words, context=label, context_space=CLASSES, config=Ngram(2, learned=False))
    every = WORD.laid.every(WORD)
    assert density.log_contexts(every)[:, 1].logsumexp(0).abs() < 1e-9


def test_a_beginning_has_the_mass_of_its_continuations(classy):
    every = WORD.check(WORD.laid.every(WORD))
    there = torch.tensor([[True, True, False, False]])
    start = Event(torch.tensor([[0, 1, 0, 0]]), there, there)
    begins = (every.value[:, 0] == 0) & (every.value[:, 1] == 1) & every.there[:, 1]
    mass = classy.log_prob(every)[begins].logsumexp(0)
    assert (classy.log_prob(start) - mass).abs() < 1e-9


def test_what_is_known_in_the_middle_alone_is_refused(classy):
    middle = Event(torch.tensor([[0, 1]]), torch.tensor([[False, True]]), torch.ones(1, 2).bool())
    with pytest.raises(CapabilityError, match="missing cells"):
        classy.log_prob(middle)


def test_steps_add_up_to_log_p(classy):
    every = WORD.check(WORD.laid.every(WORD))
    state = classy.begin(every.rows)
    total = torch.zeros(every.rows).double()
    token = None
    target = torch.where(every.there, every.value, LETTERS)
    target = torch.cat([target, torch.full((every.rows, 1), LETTERS)], 1)
    open_ = torch.ones(every.rows).bool()
    for place in range(5):
        state, log_p = classy.step(state, token)
        cell = log_p.gather(1, target[:, place, None])[:, 0]
        total += torch.where(open_, cell, 0.0)
        open_ &= target[:, place] < LETTERS
        token = torch.where(open_, target[:, place], 0)
    assert torch.allclose(total, classy.log_prob(every), atol=1e-9)


# ------------------------------------------------------------------------------------------ draws


def key(event, row):
    return tuple(event.value[row][event.there[row]].tolist())


@pytest.mark.parametrize("label", [1, None])
def test_draws_follow_log_p(classy, label):
    every = WORD.check(WORD.laid.every(WORD))
    context = [None if label is None else Event(torch.ones(n).double()) for n in (4000, every.rows)]
    drawn = classy.sample(4000, context[0], generator=stream(1))
    place = {key(every, row): row for row in range(every.rows)}
    count = np.bincount([place[key(drawn, row)] for row in range(4000)], minlength=every.rows)
    expected = 4000 * classy.log_prob(every, context[1]).exp().numpy()
    often = expected > 5
    pairs = [(count[often], expected[often]), (count[~often].sum(), expected[~often].sum())]
    square = sum(((n - e) ** 2 / e).sum() for n, e in pairs)
    degrees = often.sum()
    assert square < degrees + 4 * (2 * degrees) ** 0.5


def test_continuations_follow_the_conditional(classy):
    there = torch.tensor([[True, False, False, False]]).expand(3000, 4)
    start = Event(torch.zeros(3000, 4).long(), there, there)
    drawn = classy.sample_conditional(start, generator=stream(2))
    assert (drawn.value[:, 0] == 0).all()
    every = WORD.check(WORD.laid.every(WORD))
    second = every.there[:, 1] & (every.value[:, 0] == 0) & (every.value[:, 1] == 1)
    wanted = float((classy.log_prob(every)[second].logsumexp(0) - classy.log_prob(start)[0]).exp())
    found = drawn.there[:, 1] & (drawn.value[:, 1] == 1)
    assert float(found.double().mean()) == pytest.approx(wanted, abs=0.035)


def test_a_seed_is_a_draw(classy):
    one, again, other = (classy.sample(30, generator=stream(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.value, again.value)
    assert one.value.shape != other.value.shape or not torch.equal(one.value, other.value)


# ----------------------------------------------------------------------------------------- learning


def test_learned_weights_help_on_strings_that_none_has_seen():
    space = Block("word", "sequence", (24,), (Variable("letter", "category", LETTERS),))
    words = drawn_words(150, 1, most=24)
    fresh = event_of(drawn_words(400, 2, most=24), 24)
    plain, learned = (built(words, config=Ngram(5, learned=w), space=space) for w in (False, True))
    assert learned.log_prob(fresh).mean() > plain.log_prob(fresh).mean()


def test_the_order_is_as_long_as_it_helps():
    space = Block("word", "sequence", (12,), (Variable("letter", "category", LETTERS),))
    phrases = ["abcacbbca", "bcabacabc", "cabbacacb", "acbacbcab"] * 30
    assert built(phrases, space=space).orders >= 3
    assert built(phrases, space=space, config=Ngram(1)).orders == 2


def test_strings_that_it_was_not_built_with_are_refused_to_count(classy):
    density = built(["ab", "ba"] * 5)
    with pytest.raises(ValueError, match="grams that this model of counts was not built with"):
        density.statistics(event_of(["cc"], 4))


def test_a_context_of_columns_is_refused():
    told = RecordSpace((Block("told", "vector", (1,), (Variable("dose", "real"),)),))
    with pytest.raises(ValueError, match=r"can be told one class, and not 'told'"):
        NgramDensity(WORD, Ngram(), None, told)


def test_a_negative_order_is_refused():
    with pytest.raises(ValueError, match="order must be at least 0"):
        built(["ab"], config=Ngram(-1))


def test_grams_of_a_large_alphabet_are_found():
    letters = 5000
    value = torch.randint(letters, (50, 12), generator=stream(0))
    rows = stream_of(Event(value), letters, 20)
    key, sizes = grams_of(rows, 9)
    trie = Trie(key, sizes, letters + 2)
    assert (key.diff() > 0).all()
    assert all(bool((node >= 0).any()) for node in trie.walk(rows))
    absent = stream_of(Event((value + 1) % letters), letters, 20)
    assert int((trie.walk(absent)[5] >= 0).sum()) == 0


# ------------------------------------------------------------------------- lists of strings, files


def named(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    sounds = {"cat": ["meow", "purr", "hiss"], "dog": ["woof", "bark", "growl"]}
    y = rng.choice(["cat", "dog"], rows)
    return [" ".join(rng.choice(sounds[each], rng.integers(1, 4))) for each in y], y


@pytest.fixture(scope="module")
def model():
    X, y = named()
    return JointClassifier(family="ngram", random_state=0).fit([*X, ""], np.array([*y, "cat"]))


def test_classes_are_told_apart(model):
    X, y = named(100, 1)
    assert model.score(X, y) > 0.95
    assert model.predict_proba(X).sum(1) == pytest.approx(1.0)
    verdict = model.decide(["purr meow", "@@@@ 123", "wwwwwwwwwwwwwwww"])["verdict"].tolist()
    assert verdict[0] == "accept"
    assert verdict[1:] == ["unfamiliar", "unfamiliar"]


def test_few_labels_are_joined_by_strings_without(model):
    X, y = named(200, 3)
    some = np.array(y, dtype=object)
    some[16:] = None
    few = JointClassifier(family="ngram", random_state=0).fit(X, some)
    assert few.score(*named(100, 4)) > 0.9


def test_a_saved_model_is_the_same_to_the_bit(model, tmp_path):
    X, _ = named(40, 2)
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(model.score_samples(X), again.score_samples(X))
    assert np.array_equal(model.predict_proba(X), again.predict_proba(X))
    drawn = [list(each.sample(5, random_state=3)[0]) for each in (model, again)]
    assert drawn[0] == drawn[1]


def test_a_beginning_is_continued(model):
    found, _ = model.sample(8, given={"text": Prefix("mew")}, random_state=0)
    assert all(text.startswith("mew") for text in found)


def test_empty_strings_and_one_letter_are_data():
    density = JointDensity(family="ngram", random_state=0).fit(["", "a", "", "aa", "a"] * 12)
    short, long = density.score_samples(["", "aa"])
    assert np.isfinite([short, long]).all()
    assert short > long


def test_a_fit_is_a_function_of_its_seed():
    X, y = named(60)
    fits = [JointClassifier(family="ngram", random_state=1).fit(X, y) for _ in range(2)]
    assert np.array_equal(*(fit.score_samples(X) for fit in fits))


def test_one_pass_is_all(model):
    assert model.model_.card["trained"]["epochs"] == 1


# ------------------------------------------------------------------------------------------- texts


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    folder = tmp_path / "text"
    folder.mkdir()
    files = {
        "agnews_dev.tsv.gz": "a tab\tin it\tWorld\nb\tSports\n",
        "agnews_test.tsv.gz": "c\tWorld\n",
        "tinyshakespeare.txt.gz": "abcdefghij" * 2,
    }
    digests = []
    for name, text in files.items():
        data = gzip.compress(text.encode(), mtime=0)
        (folder / name).write_bytes(data)
        digests.append(hashlib.sha256(data).hexdigest())
    (folder / "README.md").write_text(" ".join(digests))
    monkeypatch.setenv("CONJOIN_DATA", str(tmp_path))
    return folder


def test_texts_are_read_from_the_folder(shelf):
    news = load_texts("agnews")
    assert news.strings == {"train": ["a tab\tin it", "b"], "test": ["c"]}
    assert news.labels["train"].tolist() == ["World", "Sports"]
    plays = load_texts("tinyshakespeare")
    assert [len(plays.strings[part][0]) for part in ("train", "val")] == [18, 2]


def test_texts_that_are_altered_or_absent_are_refused(shelf):
    (shelf / "agnews_test.tsv.gz").write_bytes(gzip.compress(b"x\ty\n"))
    with pytest.raises(ValueError, match="has another sha256"):
        load_texts("agnews")
    with pytest.raises(
        ValueError, match=r"'sst2' are not here: they are read from text/sst2_train"
    ):
        load_texts("sst2")
    with pytest.raises(ValueError, match="There are no texts 'nope'; there are agnews, sst2"):
        load_texts("nope")
