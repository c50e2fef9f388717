"""One network that writes strings and reads them: columns told from strings, draws towards a wish,
fits that go on with other columns, and sums over all ways to cut a molecule."""

import collections
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.chemistry.tokens import Vocabulary
from conjoin.codecs.smiles.chemistry import has_rdkit
from conjoin.codecs.smiles.column import SmilesFormat
from conjoin.codecs.smiles.ways import Lattice
from conjoin.core import Block, Event, Flat, Record, RecordSpace, Variable, stream
from conjoin.families.autoregressive.guidance import guided
from conjoin.families.autoregressive.reading import _ridge, shown
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.autoregressive.text_mixture import TextMixture, TextMixtureDensity
from conjoin.families.classic.lattice import Lattice as SumLattice
from conjoin.families.classic.ngram import Ngram
from conjoin.families.multimodal import Multimodal
from conjoin.joints.base import describe_family
from conjoin.nets.heads import Heads
from conjoin.questions import all_ways
from conjoin.questions.tuning import tuned
from conjoin.training.learners import Gradient

needs_rdkit = pytest.mark.skipif(not has_rdkit(), reason="needs rdkit: pip install conjoin[mol]")
ALCOHOLS = ["C" * n + "O" for n in range(1, 21)]
ACIDS = ["C" * n + "(=O)O" for n in range(1, 21)]
RINGS = ["C" * n + "c1ccccc1" for n in range(1, 21)]
MERGED = {"smiles": {"type": "smiles", "format": "tokens=64"}}
WORDS = Block("word", "sequence", (4,), (Variable("letter", "category", 3),))
COLUMNS = Block(
    "columns", "vector", (2,), (Variable("mass", "real"), Variable("kind", "category", 2))
)
TOLD = RecordSpace((COLUMNS,))
READS = Sequence(width=16, blocks=2, steps=60, reading=0.4)


def _words(rows, seed=0):
    """Strings of up to four letters; how many are 2; whether the first is 0."""
    noise = stream(seed)
    value = torch.randint(3, (rows, 4), generator=noise)
    length = torch.randint(1, 5, (rows, 1), generator=noise)
    there = torch.arange(4) < length
    value = torch.where(there, value, 0)
    strings = Event(value, torch.ones_like(there), there)
    twos = ((value == 2) & there).sum(1).double()
    first = (value[:, 0] == 0).double()
    return strings, Event(torch.stack([twos, first], 1))


@pytest.fixture(scope="module")
def density():
    strings, columns = _words(200)
    out = SequenceDensity.build(
        WORDS,
        READS,
        strings,
        stream(0),
        context=Record(columns=columns),
        context_space=TOLD,
    )
    learner = Gradient(out, READS.recipe(200))
    learner.begin()
    for step in range(300):
        noise = stream(0, step)
        loss = out.loss(strings, Record(columns=columns), generator=noise)
        for parameter in learner.parameters:
            parameter.grad = None
        loss.backward()
        learner.optimizer.step()
        learner.muon.step(0.01)
    learner.end()
    for parameter in learner.parameters:
        parameter.grad = None
    return out.eval()


# --------------------------------------------------------------------------------------- parameters


def test_components_of_a_number_are_moved_and_summed():
    heads = Heads((Variable("a", "real"), Variable("b", "category", 3)), 2)
    heads.spread.fill_(2.0)
    params = torch.randn(5, 2, heads.width, generator=stream(0), dtype=torch.float64)
    by = torch.full((5, 2), 3.0, dtype=torch.float64)
    moved = heads.moved(params, by)
    wide = heads.moved(params, 0 * by, torch.full((5, 2), 0.7, dtype=torch.float64))
    assert torch.allclose(
        wide - params, wide.new_tensor([0.0, 0, 0, 0, 0.7, 0.7]) * (wide != params)
    )
    assert torch.equal(moved[:, 1], params[:, 1])
    assert torch.allclose(heads.mean_of(0, moved[:, 0]), heads.mean_of(0, params[:, 0]) + 3)
    at = torch.linspace(-400, 400, 400_001, dtype=torch.float64)
    value = torch.stack([at, torch.zeros_like(at)], 1)
    known = torch.tensor([True, False]).expand_as(value)
    p = heads.log_prob(params[:1].expand(len(at), -1, -1), value, known)[:, 0].exp()
    inside = (at >= -1) & (at <= 2.5)
    step = float(at[1] - at[0])
    mass = heads.mass_between(0, params[:1, 0], -1.0, 2.5)
    assert float(mass[0]) == pytest.approx(float(p[inside].sum()) * step, abs=2e-3)
    assert float(heads.mean_of(0, params[:1, 0])[0]) == pytest.approx(
        float((p * at).sum()) * step, abs=2e-2
    )


def test_ridge_finds_what_is_a_sum_of_counts():
    noise = stream(0)
    counts = torch.randint(4, (60, 3), generator=noise).double()
    table = torch.cat([counts, torch.ones(60, 1, dtype=torch.float64)], 1)
    y = counts @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 7
    weights = _ridge(table, y, torch.ones(60, dtype=torch.float64))
    assert torch.allclose(table @ weights, y, atol=0.02)


# ------------------------------------------------------------------------------------------ reading


def test_a_network_that_reads_still_sums_to_one(density):
    every = WORDS.laid.every(WORDS)
    for told in ([0.0, 1.0], [2.0, 0.0]):
        context = Record(columns=Event(torch.tensor(told).double().expand(every.rows, -1)))
        with torch.no_grad():
            total = density.log_prob(every, context).logsumexp(0)
        assert float(total) == pytest.approx(0, abs=1e-9)


def test_columns_are_read_from_whole_strings(density):
    strings, columns = _words(300, seed=1)
    nothing = TOLD.check(Record(), 300)
    params = density.columns_read(strings, nothing)
    number = density.reading.heads.mean_of(0, params[:, 0])
    assert float((number - columns.value[:, 0]).abs().mean()) < 0.25
    level = density.reading.heads.log_levels_of(1, params[:, 1]).argmax(1)
    assert float((level == columns.value[:, 1]).double().mean()) > 0.8


def test_what_is_read_does_not_depend_on_padding_or_the_rows_beside(density):
    strings, _ = _words(20)
    nothing = TOLD.check(Record(), 20)
    every = density.columns_read(strings, nothing)
    for row in range(3):
        length = int(strings.there[row].sum())
        short = Event(
            strings.value[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool)
        )
        alone = density.columns_read(short, TOLD.check(Record(), 1))
        assert torch.allclose(alone[0], every[row], atol=1e-9)


def test_a_beginning_is_no_whole_string(density):
    value = torch.tensor([[2, 2, 0]])
    known = torch.tensor([[True, True, False]])
    beginning = Event(value, known, torch.ones_like(known))
    assert not bool(shown(beginning).whole)
    nothing = TOLD.check(Record(), 1)
    whole = Event(value[:, :2], known[:, :2])
    first, second = (density.columns_read(each, nothing) for each in (beginning, whole))
    assert not torch.allclose(first, second)
    heads = density.reading.heads
    spread = [float(heads.mass_between(0, each[:, 0], 1.5, 2.5)) for each in (first, second)]
    assert spread[1] > spread[0]  # more twos may come


def test_told_columns_change_what_is_read(density):
    strings, columns = _words(5)
    told = Record(columns=columns.hide(torch.tensor([True, False])))
    nothing = TOLD.check(Record(), 5)
    assert not torch.allclose(
        density.columns_read(strings, told), density.columns_read(strings, nothing)
    )


def test_a_model_that_only_writes_is_described_as_before():
    plain = SequenceDensity(WORDS, Sequence(width=8, blocks=1))
    assert "reading" not in describe_family(plain)["settings"]
    assert not [name for name in plain.state_dict() if name.startswith(("reading", "net.marks"))]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reading": 1.0}, "reading must be at least 0 and less than 1, got 1.0"),
        ({"reading": 0.5, "network": "absolute"}, "reading=0.5 needs network='rotary'"),
    ],
)
def test_a_share_that_can_not_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Sequence(**settings)


# -------------------------------------------------------------------------------- towards a wish


def _log_wish(strings):
    """Of whole strings log of a share by their twos; of beginnings the same of what there is."""
    twos = ((strings.value == 2) & strings.known).sum(1).double()
    return (0.1 + 0.3 * twos).log()


def test_guided_draws_are_those_of_p_by_the_wish(density):
    every = WORDS.laid.every(WORDS)
    nothing = TOLD.check(Record(), every.rows)
    with torch.no_grad():
        log_p = density.log_prob(every, nothing) + _log_wish(every)
    share = log_p.softmax(0)
    rows = 20_000
    with torch.no_grad():
        drawn, tokens = guided(density, rows, TOLD.check(Record(), rows), _log_wish, stream(3))
    assert rows <= tokens <= 4 * rows  # as many as there are places, at most
    counts = collections.Counter(_texts(drawn))
    found = torch.tensor([counts[text] / rows for text in _texts(every)])
    assert float((found - share).abs().sum()) / 2 < 0.06
    with torch.no_grad():
        plain = density.log_prob(every, nothing).softmax(0)
    assert float((plain - share).abs().sum()) / 2 > 0.15


def _texts(event):
    return [
        "".join(map(str, row[there].tolist()))
        for row, there in zip(event.value, event.there, strict=True)
    ]


def test_a_tuned_network_draws_more_of_what_is_wanted_and_leaves_the_model(density):
    before = {name: value.clone() for name, value in density.state_dict().items()}

    def log_wish(strings):
        twos = ((strings.value == 2) & strings.there).sum(1)
        return torch.where(twos >= 2, 0.0, -torch.inf).double()

    drawn = tuned(density, 1_000, log_wish, stream(0))
    wanted = torch.isfinite(log_wish(drawn)).double()
    assert float(wanted[800:].mean()) > float(wanted[:200].mean()) + 0.1
    assert all(torch.equal(before[name], value) for name, value in density.state_dict().items())
    assert all(parameter.grad is None for parameter in density.parameters())


# ---------------------------------------------------------------------- other columns, other atoms


def test_later_pieces_stand_behind_all_codes():
    words = Vocabulary.learn(["CCO"] * 12, 5)
    more = words.broadened(["CN", "CCO", "[nH]Br"])
    assert more.texts[: len(words.texts) - 1] == words.texts[:-1]
    assert more.later == ("Br", "N", "[nH]")
    assert more.texts[-1] == words.texts[-1]
    assert [words.texts[c] for c in words.encode(["CCO"])[0]] == [
        more.texts[c] for c in more.encode(["CCO"])[0]
    ]
    assert more.text(more.encode(["C[nH]NBr"])[0]) == "C[nH]NBr"
    assert Vocabulary.from_json(more.to_json()) == more
    assert "later" not in words.to_json()


def test_a_network_goes_on_with_more_tokens_beside_other_columns(density):
    alone = SequenceDensity(WORDS, Sequence(width=16, blocks=2), context_space=RecordSpace())
    assert alone.go_on_from(density)
    wide = Block("word", "sequence", (6,), (Variable("letter", "category", 5),))
    bigger = SequenceDensity(wide, Sequence(width=16, blocks=2), context_space=TOLD)
    assert bigger.go_on_from(alone)
    strings, _ = _words(20)
    longer = Event(
        torch.nn.functional.pad(strings.value, (0, 2)),
        torch.nn.functional.pad(strings.mask, (0, 2), value=True),
        torch.nn.functional.pad(strings.there, (0, 2)),
    )
    codes = longer.value.clone()
    codes[longer.there & (codes == 2)] = 4  # the last token, the unknown one, stays the last
    nothing = TOLD.check(Record(), 20)
    hidden = [
        alone.net.features(strings.value[:, :3], torch.zeros(20, 0).double()),
        bigger.net.features(codes[:, :3], bigger.encoder(nothing, 20)),
    ]
    assert torch.allclose(*hidden, atol=1e-6)
    assert torch.equal(bigger.net.last.weight[2], alone.net.last.weight[2])  # new, as the unknown
    small = SequenceDensity(WORDS, Sequence(width=8, blocks=2))
    with pytest.raises(ValueError, match="width=16, blocks=2"):
        small.go_on_from(density)


@needs_rdkit
@pytest.mark.slow
def test_a_small_set_begins_from_a_model_of_other_molecules(tmp_path):
    family = Multimodal(strings={"width": 16, "blocks": 1, "steps": 150})
    kind = {"smiles": "smiles"}
    before = JointDensity(family=family, types=kind).fit(ALCOHOLS + ACIDS + RINGS)
    few = [f"{'C' * n}c1ccccc1O" for n in range(1, 31)] + [f"{'C' * n}Br" for n in range(1, 11)]
    y = np.arange(40.0)
    short = Multimodal(strings={"width": 16, "blocks": 1, "steps": 5})
    nats = {}
    for name, start in (("none", None), ("other", before)):
        given = {"types": kind} if start is None else {}
        model = JointRegressor(family=short, start_from=start, **given)
        nats[name] = -model.fit(few, y).score_samples(few).mean()
    assert nats["other"] < nats["none"] - 1
    assert model.model_.codec.column.vocabulary.later == ("Br",)
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.score_samples(few), model.score_samples(few))


@needs_rdkit
@pytest.mark.slow
def test_properties_read_by_the_network_and_designed_by_each_method(tmp_path):
    size = np.tile(np.arange(1.0, 21.0), 3)
    frame = pd.DataFrame({"smiles": ALCOHOLS + ACIDS + RINGS, "size": size})
    frame["acid"] = np.repeat([0.0, 1.0, 0.3], 20) + 0.01 * size
    frame.loc[::7, "acid"] = np.nan
    family = Multimodal(strings={"width": 16, "blocks": 1, "steps": 150, "reading": 0.3})
    model = JointRegressor(family=family, predictor="reader")
    model.fit(frame["smiles"], frame[["size", "acid"]])
    guess = model.predict(frame["smiles"])
    assert np.corrcoef(guess["size"], size)[0, 1] > 0.9
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.predict(frame["smiles"]), guess)
    accepted = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in ("prompted", "guided", "tuned", "redrawn"):
            found = again.design(5, size=(3, 7), method=method, proposals=200)
            accepted[method] = found.attrs["acceptance"]
            assert set(found.attrs["tokens"]) == {method, "drawn"}
        plain = again.design(5, size=(3, 7), proposals=200)
        assert plain.equals(found) and plain.attrs["tokens"] == found.attrs["tokens"]
        ended = again.design(5, size=(3, 7), proposals=200, how="draw")
    assert set(ended["way"][: ended["way"].eq("redrawn").sum()]) == {"redrawn"}  # these come first
    assert len(ended) == 5
    wanted = found.attrs["wanted_per_1000_tokens"]
    assert wanted["redrawn"] > wanted["drawn"]
    assert accepted["redrawn"]["redrawn"] > 1.5 * accepted["redrawn"]["drawn"]
    assert accepted["guided"]["guided"] > 1.5 * accepted["guided"]["drawn"]
    with pytest.raises(ValueError, match="method='best' is unknown; choose from redrawn, prompted"):
        again.design(5, size=(3, 7), method="best")


@needs_rdkit
@pytest.mark.slow
def test_guiding_needs_a_network_that_reads():
    family = Multimodal(strings={"width": 8, "blocks": 1, "steps": 5})
    model = JointRegressor(family=family).fit(ALCOHOLS + ACIDS + RINGS, np.arange(60.0))
    with pytest.raises(ValueError, match="method='guided' needs a network that reads strings"):
        model.design(2, y=(10, 30), method="guided")
    with pytest.raises(ValueError, match="predictor='reader' needs a network of strings"):
        JointRegressor(family=family, predictor="reader").fit(ALCOHOLS + ACIDS, np.arange(40.0))


# ---------------------------------------------------------------------------------------- all ways


def test_ways_to_cut_a_string_are_counted_listed_and_drawn():
    words = Vocabulary(("C", "Cl", "O"), ((0, 0), (3, 1), (0, 2)))  # CC, CCCl, CO
    lattice = Lattice.of(words, "CCCl")
    assert lattice.count == 3
    assert sorted(lattice.every()) == [(0, 0, 1), (3, 1), (4,)]
    assert Lattice.of(words, "CC[Si]O").edges[2] == ((2, words.unknown),)
    drawn, log_q = lattice.drawn(4_000, np.random.default_rng(0))
    q = dict(zip(drawn, np.exp(log_q), strict=True))
    assert sum(q.values()) == pytest.approx(1)
    assert q[(3, 1)] / q[(4,)] == pytest.approx(np.exp(-3))
    counts = collections.Counter(drawn)
    assert counts[(3, 1)] / 4_000 == pytest.approx(q[(3, 1)], abs=0.01)


@needs_rdkit
@pytest.mark.slow
def test_the_sum_over_all_ways_is_above_one_way_and_estimated_where_they_are_many(monkeypatch):
    family = Multimodal(strings={"width": 16, "blocks": 1, "steps": 60})
    model = JointDensity(family=family, types=MERGED).fit(ALCOHOLS + ACIDS + RINGS)
    asked = ["CCCCO", "CCO"]
    one = model.score_samples(asked)
    every = model.score_samples(asked, exact=True)
    assert (every > one).all()
    monkeypatch.setattr(all_ways, "MOST_WAYS", 2)
    monkeypatch.setattr(all_ways, "DRAWN_WAYS", 3_000)
    with pytest.warns(UserWarning, match="1 of the 2 molecules can be cut in more than 2 ways"):
        estimated = model.score_samples(asked, exact=True)
    assert estimated[0] == pytest.approx(every[0], abs=0.05)
    assert estimated[0] >= one[0]
    with pytest.raises(ValueError, match="exact=True sums the ways to cut one column of SMILES"):
        JointDensity(family="naive_bayes").fit(np.eye(60)).score_samples(np.eye(60), exact=True)


# ------------------------------------------------------------------ counts of molecules' tokens


def every_way(model, texts):
    """log p of each string by a sum over all ways to cut it, one by one."""
    encoded = model.encode(texts)
    (molecules,) = model.codec.structures
    out = []
    for row, text in enumerate(texts):
        lattice = Lattice.of(molecules.vocabulary, text)
        one = encoded.take(torch.tensor([row]))
        out.append(all_ways._log_sum(all_ways._scores(model, one, list(lattice.every()))))
    return np.array(out)


@needs_rdkit
@pytest.mark.parametrize("order", [0, 2, None])
def test_counts_sum_all_ways_to_cut_a_molecule_exactly(order):
    model = JointDensity(family=Ngram(order), types=MERGED).fit(ALCOHOLS + ACIDS + RINGS)
    asked = ["CCCCO", "CCO", "CCc1ccccc1", "CCCCCCC(=O)O"]
    one = model.score_samples(asked)
    every = model.score_samples(asked, exact=True)
    assert every == pytest.approx(every_way(model.model_, asked), abs=1e-9)
    assert (every > one).any()
    assert (every >= one).all()


@needs_rdkit
def test_counts_of_classes_sum_all_ways_too(tmp_path):
    strings = ALCOHOLS + ACIDS + RINGS
    labels = [name for name, some in (("a", ALCOHOLS), ("b", ACIDS), ("c", RINGS)) for _ in some]
    model = JointClassifier(family="ngram", types=MERGED).fit(strings, labels)
    asked = ["CCCCO", "CC(=O)O"]
    every = model.score_samples(asked, exact=True)
    assert every == pytest.approx(every_way(model.model_, asked), abs=1e-9)
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model").score_samples(asked, exact=True)
    assert (again == every).all()


def test_a_string_of_more_tokens_than_fit_has_no_mass():
    """Of two ways to cut it only the short one fits; there the end is certain."""
    edges = (((0, 0),), ((1, 0), (0, 1)))
    log_p = torch.tensor([[0.5], [0.3], [0.2]]).double().log()

    def along(node, token):
        return node, log_p[token]

    begin = (torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1).double())
    found = SumLattice(edges, 1, 2).log_sum(*begin, along)
    assert found.exp().item() == pytest.approx(0.3)
    assert SumLattice(edges, 2, 2).log_sum(*begin, along).exp().item() == pytest.approx(
        0.5 * 0.5 + 0.3 * 0.2
    )


def test_families_of_strings_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="family='ngram' models strings, and the rows hold other"):
        JointDensity(family="ngram").fit(np.eye(60))


@needs_rdkit
def test_few_molecules_are_atoms_and_counted():
    """Of many there are merges, and the network stands alone."""
    model = JointDensity(family=Multimodal(strings={"width": 8, "blocks": 1, "steps": 3}))
    model.fit(ALCOHOLS + ACIDS + RINGS)
    assert not model.model_.codec.several_ways
    assert model.model_.card["settings"]["strings"]["family"] == "text_mixture"
    assert [SmilesFormat().size(n) for n in (100, 8_000, 20_000)] == [0, 256, 512]
    block = model.model_.codec.column.block
    config = Multimodal().suited(Flat(RecordSpace((block,))).space)
    assert config.for_rows(19_999).strings["family"] == "text_mixture"
    assert config.for_rows(20_000).strings["family"] == "sequence"
    alone = Multimodal(strings={"family": "sequence"})
    assert alone.for_rows(10) is alone


def test_the_counts_beside_columns_know_no_class():
    """They are told one class, or nothing."""
    strings, columns = _words(150)
    config = TextMixture(width=8, blocks=1)
    told = {"context": Record(columns=columns), "context_space": TOLD}
    density = TextMixtureDensity.build(WORDS, config, strings, stream(0), **told)
    assert density.counts.classes == 0
    every = WORDS.laid.every(WORDS)
    about = columns.take(torch.zeros(every.rows, dtype=torch.int64))
    assert density.log_prob(every, Record(columns=about)).logsumexp(0).item() == pytest.approx(0)
