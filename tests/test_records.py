"""Blocks, records, flat rows and chains: brute force on spaces that can be listed."""

import copy
import dataclasses
import math

import pytest
import torch

from conjoin.core import (
    Block,
    Event,
    Flat,
    Pair,
    Record,
    RecordSpace,
    Region,
    Space,
    Status,
    Variable,
    stream,
)
from conjoin.families import resolve
from conjoin.families.chain import Chain, ChainDensity
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.families.illustrated import Illustrated, IllustratedDensity
from conjoin.nets.encoders import RecordEncoder

LETTER = (Variable("letter", "category", 2),)
WORD = Block("word", "sequence", (3,), LETTER)
LABEL = Block("label", "vector", (1,), (Variable("label", "category", 2),))
SCAN = Block("scan", "image", (1, 1, 2), (Variable("grey", "ordered", 2),))
ATOMS = Block(
    "atoms", "points", (2, 2), (Variable("kind", "category", 2), Variable("x", "real")), True
)
TABLE = Block("columns", "vector", (2,), (Variable("age", "real"), Variable("sex", "category", 2)))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


# ------------------------------------------------------------------ events and blocks


def test_four_states_of_a_position():
    observed = torch.tensor([[True, True, False, False]])
    present = torch.tensor([[True, False, True, False]])
    event = Event(torch.ones(1, 4, dtype=torch.long), observed, present)
    assert event.known.tolist() == [[True, False, False, False]]
    assert not event.complete.any()
    assert not event.unobserved.any()
    hidden = event.hide(torch.ones(1, 4, dtype=torch.bool))
    assert hidden.unobserved.all()


def test_a_string_is_narrowed_and_its_padding_says_nothing():
    junk = Event(
        torch.tensor([[1, 0, 1], [0, 1, 1]]),
        None,
        torch.tensor([[True, False, False], [True, True, False]]),
    )
    event = WORD.check(junk)
    assert event.value.tolist() == [[1, 0], [0, 1]]
    assert event.complete.all()


def test_a_token_behind_the_end_is_refused():
    event = Event(torch.zeros(1, 2).long(), None, torch.tensor([[False, True]]))
    with pytest.raises(ValueError, match="'word': a token stands behind the end"):
        WORD.check(event)


def test_codes_are_checked_by_name():
    with pytest.raises(ValueError, match="'word' has the code 2; its codes are whole numbers"):
        WORD.check(Event(torch.tensor([[0, 2]])))


def test_points_stand_about_their_mean():
    value = torch.tensor([[[0.0, 1.0], [1.0, 3.0]]])
    assert ATOMS.check(Event(value)).value[0, :, 1].tolist() == [-1.0, 1.0]


def test_a_flat_row_holds_strings_and_their_ends():
    flat = Flat(RecordSpace((LABEL, WORD)))
    every = WORD.laid.every(WORD)
    record = Record(label=Event(torch.zeros(every.rows, 1)), word=every)
    row = flat.join(record)
    assert row.value.shape == (15, 4)
    assert len(row.value.unique(dim=0)) == 15
    back = flat.split(row)["word"]
    assert torch.equal(back.there, every.there)
    assert torch.equal(back.value, every.value)
    short = Record(label=Event(torch.zeros(3, 1)), word=every.take(slice(0, 3)))
    assert flat.join(short).mask.all()  # an end that is known stays known
    begun = Event(torch.tensor([[1, 0]]), torch.tensor([[True, False]]))
    begun = begun._replace(present=begun.observed)
    prefix = flat.join(Record(label=Event(torch.zeros(1, 1)), word=begun))
    assert prefix.mask.tolist() == [[True, True, False, True]]  # what was cut off is absent


def test_what_a_flat_row_can_not_say_is_refused():
    exists = Event(torch.tensor([[1]]), torch.tensor([[False]]), torch.tensor([[True]]))
    flat = Flat(RecordSpace((LABEL, WORD)))
    with pytest.raises(ValueError, match="'word': a flat row can't say that a position exists"):
        flat.join(Record(label=Event(torch.zeros(1, 1)), word=exists))
    with pytest.raises(ValueError, match="'atoms' has points"):
        Flat(RecordSpace((LABEL, ATOMS)))
    with pytest.raises(ValueError, match="'label' holds columns and is behind a block"):
        Flat(RecordSpace((WORD, LABEL)))


def test_every_value_is_listed_once():
    assert WORD.laid.every(WORD).rows == 1 + 2 + 4 + 8
    assert SCAN.laid.every(SCAN).rows == 4


def test_rows_join_blocks_and_part_again():
    flat = Flat(RecordSpace((TABLE, SCAN)))
    record = Record(
        columns=Event(torch.tensor([[1.5, 1.0]]).double(), torch.tensor([[False, True]])),
        scan=Event(torch.tensor([[[[1, 0]]]], dtype=torch.uint8)),
    )
    row = flat.join(record)
    assert flat.space.grid == (1, 1, 2)
    assert row.mask.tolist() == [[False, True, True, True]]
    back = flat.split(row)
    assert back["scan"].value.dtype is torch.uint8
    assert torch.equal(back["scan"].value, record["scan"].value)
    assert back["columns"].mask.tolist() == [[False, True]]


def test_regions_join_too():
    flat = Flat(RecordSpace((LABEL, TABLE)))
    free = torch.tensor([math.inf, math.inf]).double()
    box = Region(torch.tensor([[10.0, -math.inf]]).double(), free.expand(1, 2))
    record = Record(
        label=Event(torch.zeros(1, 1)),
        columns=Event(torch.zeros(1, 2), torch.zeros(1, 2).bool(), within=box),
    )
    within = flat.join(record).within
    assert within.low.tolist() == [[-math.inf, 10.0, -math.inf]]


def test_addresses():
    space = RecordSpace((TABLE, SCAN))
    assert space.find("age") == ("columns", 0)
    assert space.find("scan") == ("scan", None)
    assert space.find(("columns", "sex")) == ("columns", 1)
    with pytest.raises(ValueError, match="no block or column 'weight'"):
        space.find("weight")
    twice = RecordSpace((TABLE, Block("more", "vector", (1,), (Variable("age", "real"),))))
    with pytest.raises(ValueError, match=r"say \('columns', 'age'\)"):
        twice.find("age")


def test_a_record_has_rows_of_one_number():
    with pytest.raises(ValueError, match="different numbers of rows: a 1, b 2"):
        Record(a=Event(torch.zeros(1, 1)), b=Event(torch.zeros(2, 1)))


def test_a_block_that_is_not_named_is_not_known():
    record = RecordSpace((LABEL, WORD)).check(Record(label=Event(torch.ones(2, 1))))
    assert record["word"].unobserved.all()
    with pytest.raises(ValueError, match="no block 'scan'"):
        RecordSpace((LABEL,)).check(Record(scan=Event(torch.zeros(1, 1, 1, 2))))


# ------------------------------------------------------------------ regions of each row


@pytest.fixture(scope="module", params=["circuit", "mixture", "bayes_net"])
def fitted(request):
    """A density of a number and a class, after a few steps of EM."""
    noise = stream(0, "rows")
    label = torch.randint(2, (80, 1), generator=noise).double()
    number = label + torch.randn(80, 1, generator=noise, dtype=torch.float64)
    space = Space((2,), (Variable("x", "real"), Variable("y", "category", 2)))
    config = resolve(request.param)
    data = Event(torch.cat([number, label], 1))
    density = config.density.build(space, config, data, stream(0))
    for _ in range(3):
        density.maximise(density.statistics(data))
    return density.eval()


def censored(low, high):
    value = torch.zeros(len(low), 2).double()
    value[:, 1] = torch.tensor([0.0, 1.0, 0.0])
    free = torch.full((len(low), 1), math.inf).double()
    box = Region(torch.cat([low[:, None], -free], 1), torch.cat([high[:, None], free], 1))
    return Event(value, torch.tensor([[False, True]]).expand(len(low), 2), within=box)


def test_a_censored_cell_has_the_mass_of_its_range(fitted):
    low = torch.tensor([-math.inf, 0.5, 0.5]).double()
    high = torch.tensor([0.5, math.inf, math.inf]).double()
    got = fitted.log_prob(censored(low, high)).detach()
    grid = torch.linspace(-12, 14, 26001).double()
    for row, label in enumerate([0.0, 1.0, 0.0]):
        cells = torch.stack([grid, torch.full_like(grid, label)], 1)
        p = fitted.log_prob(Event(cells)).detach().exp() * (26 / 26000)
        inside = (grid >= low[row]) & (grid <= high[row])
        assert float(p[inside].sum().log()) == pytest.approx(float(got[row]), abs=2e-3)


def test_rows_with_regions_of_their_own_do_not_depend_on_their_neighbours(fitted):
    low = torch.tensor([-1.0, 0.5, -1.0]).double()
    high = torch.tensor([0.5, 2.0, 0.5]).double()
    event = censored(low, high)
    together = fitted.log_prob(event)
    alone = torch.cat([fitted.log_prob(event.take(slice(row, row + 1))) for row in range(3)])
    assert torch.allclose(together, alone, atol=1e-12)
    draws = fitted.sample_conditional(event, generator=stream(1)).value[:, 0]
    assert ((draws >= low) & (draws <= high)).all()


def test_statistics_of_censored_rows_add_up(fitted):
    if not fitted.capabilities.statistics:
        pytest.skip("learns by no statistics")
    low = torch.tensor([-1.0, 0.5, -1.0]).double()
    event = censored(low, torch.tensor([0.5, 2.0, 0.5]).double())
    whole = fitted.statistics(event)
    parts = [fitted.statistics(event.take(slice(row, row + 1))) for row in range(3)]
    for key, value in whole.items():
        assert torch.allclose(value, sum(part[key] for part in parts), atol=1e-9)


def test_log_target_of_any_column(fitted):
    event = Event(torch.tensor([[0.3, 0.0]]).double(), torch.tensor([[True, False]]))
    got = fitted.log_target(event, torch.tensor([0.0, 1.0]), column=1)
    alone = fitted.log_prob(event)
    assert torch.allclose(got.logsumexp(1), alone, atol=1e-9)


# ------------------------------------------------------------------ chains


SPACE = RecordSpace((LABEL, SCAN))


@pytest.fixture(scope="module")
def chain():
    """p(label) p(scan | label), with weights that were moved away from zero."""
    noise = stream(0, "chain")
    label = torch.randint(2, (60, 1), generator=noise).double()
    scan = (label[:, :, None, None] + torch.rand(60, 1, 1, 2, generator=noise) > 0.8).byte()
    config = Chain(columns="mixture", others=(("scan", resolve("autoregressive")),))
    data = Record(label=Event(label), scan=Event(scan))
    density = ChainDensity.build(SPACE, config, data, stream(0))
    with torch.no_grad():
        for parameter in density.factors[1].parameters():
            shape = parameter.shape
            parameter.add_(0.3 * torch.randn(shape, generator=noise, dtype=torch.float64))
    return density


def every():
    scans = SCAN.laid.every(SCAN)
    labels = torch.arange(2.0).repeat_interleave(4)[:, None]
    return Record(label=Event(labels), scan=scans.take(torch.arange(4).repeat(2)))


def test_a_chain_sums_to_one(chain):
    assert float(chain.log_prob(every()).logsumexp(0)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["label", "scan"])
def test_a_block_that_is_missing_is_summed_out(chain, name):
    record = every()
    alone = record.only([name])
    got = chain.log_prob(alone)
    joint = chain.log_prob(record)
    for row in range(record.rows):
        value = record[name].value
        same = (value == value[row]).flatten(1).all(1)
        assert float(joint[same].logsumexp(0)) == pytest.approx(float(got[row]), abs=1e-9)
    assert chain.status_of(alone) is Status.EXACT


def test_nothing_known_has_probability_one(chain):
    record = chain.space.check(Record(), 3)
    assert chain.log_prob(record).tolist() == [0.0, 0.0, 0.0]


def test_the_posterior_is_bayes_rule(chain):
    record = every().take(slice(0, 4)).only(["scan"])
    _, log_p = chain.posterior(record, "label")
    joint = chain.log_prob(every()).reshape(2, 4).T
    assert torch.allclose(log_p, joint.log_softmax(1), atol=1e-9)


def test_draws_of_a_chain_follow_it(chain):
    drawn = chain.sample(4000, generator=stream(3))
    pixels = drawn["scan"].value.flatten(1).double()
    code = 4 * drawn["label"].value[:, 0] + pixels @ torch.tensor([2.0, 1.0]).double()
    share = torch.bincount(code.long(), minlength=8) / 4000
    expected = chain.log_prob(every()).exp()
    assert float(((share - expected) ** 2 / expected).sum() * 4000) < 24.3  # chi-square, p = .001


def test_a_label_is_drawn_given_its_scan(chain):
    record = Record(scan=Event(torch.ones(3000, 1, 1, 2, dtype=torch.uint8)))
    found = chain.complete(record, generator=stream(4))
    _, log_p = chain.posterior(record.take(slice(0, 1)), "label")
    share = float(found.event["label"].value.mean())
    assert share == pytest.approx(float(log_p[0, 1].exp()), abs=0.03)
    assert found.status is Status.EXACT
    assert (found.event["scan"].value == 1).all()


def test_terms_of_a_chain_add_up(chain):
    terms = chain.log_terms(every())
    assert torch.allclose(sum(terms.values()), chain.log_prob(every()), atol=1e-12)


def test_an_open_number_makes_a_bound():
    number = Block("age", "vector", (1,), (Variable("age", "real"),))
    noise = stream(0, "bound")
    value = torch.randn(60, 1, generator=noise, dtype=torch.float64)
    scan = torch.randint(256, (60, 1, 8, 8), generator=noise, dtype=torch.uint8)
    data = Record(age=Event(value), scan=Event(scan))
    block = Block("scan", "image", (1, 8, 8), (Variable("grey", "ordered", 256),))
    picture = PictureDiffusion(size=0.25, points=2)
    config = Chain(columns="mixture", others=(("scan", picture),), draws=8)
    density = ChainDensity.build(RecordSpace((number, block)), config, data, stream(0))
    open_ = data.only(["scan"]).take(slice(0, 2))
    assert density.status_of(open_) is Status.LOWER_BOUND
    assert density.complete(open_, generator=stream(1)).status is Status.APPROXIMATE


# ------------------------------------------------------------------ encoders


@pytest.mark.parametrize("block", [LABEL, TABLE, SCAN, WORD, ATOMS], ids=lambda block: block.name)
def test_an_encoder_does_not_see_what_is_unknown(block):
    encoder = RecordEncoder(RecordSpace((block,)))
    nothing = block.check(block.unknown(2))
    out = encoder(Record({block.name: nothing}), 2)
    assert out.shape == (2, encoder.size)
    assert torch.equal(out[0], out[1])


def test_an_encoder_of_points_sees_a_set():
    encoder = RecordEncoder(RecordSpace((ATOMS,)))
    value = torch.tensor([[[0.0, 1.0], [1.0, 3.0]], [[1.0, 3.0], [0.0, 1.0]]])
    one, other = encoder(Record(atoms=ATOMS.check(Event(value))), 2)
    assert torch.allclose(one, other, atol=1e-12)


def test_a_pair_keeps_its_halves_together():
    pair = Pair(Event(torch.arange(3.0)), Event(torch.arange(6.0).reshape(3, 2)))
    assert pair.take(torch.tensor([2])).x.value.tolist() == [[4.0, 5.0]]


# ------------------------------------------------------------------ illustrated is a chain


@pytest.fixture(scope="module")
def illustrated():
    """The family of a table with a picture, and the chain of the same two densities."""
    noise = stream(0, "illustrated")
    label = torch.randint(3, (60, 1), generator=noise).double()
    mass = label + torch.randn(60, 1, generator=noise, dtype=torch.float64)
    scan = torch.randint(120, (60, 1, 8, 8), generator=noise) + 40 * label.long()[..., None, None]
    front = Block(
        "columns", "vector", (2,), (Variable("y", "category", 3), Variable("mass", "real"))
    )
    picture = Block("scan", "image", (1, 8, 8), (Variable("grey", "ordered", 256),))
    space = RecordSpace((front, picture))
    record = Record(columns=Event(torch.cat([label, mass], 1)), scan=Event(scan.byte()))
    config = Illustrated(size=0.25, points=4, columns="mixture")
    flat = Flat(space)
    density = IllustratedDensity.build(flat.space, config, flat.join(record), stream(0)).eval()
    chain = ChainDensity(space, Chain(columns="mixture"))
    parts = [copy.deepcopy(part) for part in (density.first, density.picture)]
    return density, chain.with_factors(parts).eval(), flat, record


@pytest.mark.parametrize("known", [("columns", "scan"), ("columns",)])
def test_illustrated_says_what_its_chain_says(illustrated, known):
    density, chain, flat, record = illustrated
    part = record.only(known)
    assert torch.equal(chain.log_prob(part), density.log_prob(flat.join(chain.space.check(part))))


def test_illustrated_sums_its_label_out_as_a_chain_does(illustrated):
    density, chain, flat, record = illustrated
    columns = record["columns"]
    hidden = record.updated({"columns": columns.hide(torch.tensor([True, False]))})
    got = chain.log_prob(hidden)
    assert chain.status_of(hidden) is Status.LOWER_BOUND  # of the picture, which is a bound itself
    assert torch.allclose(got, density.log_prob(flat.join(hidden)), atol=1e-9)


def test_illustrated_draws_what_its_chain_draws(illustrated):
    density, chain, flat, _ = illustrated
    row = density.sample(6, generator=stream(4)).value
    drawn = chain.sample(6, generator=stream(4))
    assert torch.equal(flat.join(drawn).value, row)


def test_a_chain_may_begin_with_a_string():
    words = WORD.laid.every(WORD)
    other = dataclasses.replace(WORD, name="other")
    space = RecordSpace((WORD, other))
    chain = ChainDensity.build(space, Chain(), Record(word=words, other=words), stream(0))
    assert torch.isfinite(chain.log_prob(Record(word=words, other=words))).all()
    assert chain.sample(3, generator=stream(0)).rows == 3


def test_ways_beyond_all_counting_are_infinite():
    long = Block("text", "sequence", (200,), (Variable("letter", "category", 60),))
    assert long.laid.ways(long, long.unknown(1)) == math.inf
    scan = Block("scan", "image", (1, 20, 20), (Variable("grey", "ordered", 256),))
    assert scan.laid.ways(scan, scan.unknown(1)) == math.inf


def test_a_string_given_to_rows_is_joined_first():
    flat = Flat(RecordSpace((WORD,)))
    words = WORD.laid.every(WORD)
    rows = flat.join(Record(word=words))
    density = resolve("mixture").density.build(flat.space, resolve("mixture"), rows, stream(0))
    density.over(flat)
    assert torch.equal(density.log_prob(words), density.log_prob(rows))
