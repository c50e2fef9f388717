"""Graphs of codes: bins, exact sums over tables, Bayesian networks and Markov random fields, all
against enumeration.
"""

import itertools
import math

import pytest
import torch

from conjoin.core import Event, Likelihood, Region, Space, Variable, stream
from conjoin.families.adapters import MAX_LEVELS as KEPT
from conjoin.families.adapters import Bins, default_bins, plan_bins
from conjoin.families.classic import elimination, markov_field
from conjoin.families.classic.bayes_net import (
    BayesNet,
    BayesNetDensity,
    _ancestors,
    _Scores,
    _Search,
    learn_parents,
)
from conjoin.families.classic.elimination import Factor, eliminate, elimination_order
from conjoin.families.classic.markov_field import (
    MarkovField,
    MarkovFieldDensity,
    field_edges,
    mean_field,
)

INF = math.inf

# ------------------------------------------------------------------------------------------ helpers


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=stream(seed), dtype=torch.float64)


def categories(levels, grid=None):
    return Space(
        (len(levels),),
        tuple(Variable(f"c{d}", "category", cardinality=n) for d, n in enumerate(levels)),
        grid=grid,
    )


def shaped(family, config, levels, scopes, seed=0, scale=0.8, grid=None):
    """A density over plain categories with these tables, filled at random."""
    plan = {"columns": [{"levels": list(range(n))} for n in levels], "components": 3}
    density = family(categories(levels, grid), config, {"bins": plan, "scopes": scopes})
    with torch.no_grad():
        for index, (name, parameter) in enumerate(density.named_parameters()):
            if name.split(".")[0] in ("logits", "node", "edge"):
                parameter.copy_(scale * normal(*parameter.shape, seed=100 * seed + index))
    return density


CODES = (2, 3, 2, 4)


def net(seed=0):
    return shaped(BayesNetDensity, BayesNet(), CODES, [[0], [1, 0], [2, 0, 1], [3, 2]], seed)


def field(seed=0, edges=((0, 1), (1, 2), (2, 3), (0, 3)), levels=CODES, scale=0.8, **settings):
    """Neighbours in a ring."""
    scopes = [[d] for d in range(len(levels))] + [[*edge] for edge in edges]
    return shaped(
        MarkovFieldDensity,
        MarkovField(**{"structure": "dense"} | settings),
        levels,
        scopes,
        seed,
        scale,
    )


GRAPHS = {"net": net, "field": field}
every_graph = pytest.mark.parametrize("graph", GRAPHS)


def every(levels):
    """All combinations of codes, in the order of a table's cells."""
    return torch.tensor(list(itertools.product(*map(range, levels)))).double()


def joint(density):
    """log p of every combination of codes, by adding up the tables; and the log of their sum."""
    places = torch.meshgrid(*map(torch.arange, density.bins.levels), indexing="ij")
    tables = zip(density.scopes, density._tables(), strict=True)
    total = sum(table[tuple(places[v] for v in scope)] for scope, table in tables).detach()
    constant = total.flatten().logsumexp(0)
    return total - constant, constant


def cut(table, codes, mask):
    """The cells of a table that agree with what is known."""
    return table[
        tuple(int(code) if known else slice(None) for code, known in zip(codes, mask, strict=True))
    ]


def some_rows(levels, seed=3, share=0.5, times=4):
    value = every(levels).repeat(times, 1)
    return Event(value, uniform(*value.shape, seed=seed) < share)


def marginals(table, event):
    return torch.stack(
        [
            cut(table, *row).flatten().logsumexp(0)
            for row in zip(event.value, event.mask, strict=True)
        ]
    )


def frequencies(value, levels):
    place = torch.zeros(len(value), dtype=torch.long)
    for column, count in zip(value.T, levels, strict=True):
        place = place * count + column.long()
    return torch.bincount(place, minlength=math.prod(levels)).double() / len(value)


def apart(draws, table):
    """Total variation between draws and a log-table over all codes."""
    return float((frequencies(draws, table.shape) - table.exp().flatten()).abs().sum() / 2)


def differences(function, parameter, step=1e-5):
    """The gradient of a function of one parameter, entry by entry."""
    out = torch.zeros_like(parameter)
    with torch.no_grad():
        flat = parameter.view(-1)
        for index in range(flat.numel()):
            kept = float(flat[index])
            flat[index] = kept + step
            above = function()
            flat[index] = kept - step
            out.view(-1)[index] = (above - function()) / (2 * step)
            flat[index] = kept
    return out


def close(got, wanted, tolerance=1e-9):
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=tolerance)


# --------------------------------------------------------------------------------------------- bins


def half(x):
    return 0.5 * torch.round(2 * x)


def clusters(u, z):
    return torch.where(u < 0.4, -2 + 0.6 * z, 3 + z)


# kind -> (variable, its values from uniform and from normal noise)
COLUMNS = {
    "category": (Variable("v", "category", cardinality=5), lambda u, z: torch.floor(5 * u * u)),
    "rare": (Variable("v", "category", cardinality=90), lambda u, z: torch.floor(90 * u**3)),
    "ordered": (Variable("v", "ordered", cardinality=7), lambda u, z: torch.floor(7 * u)),
    "many": (Variable("v", "ordered", cardinality=30), lambda u, z: torch.floor(30 * u * u)),
    "integer": (Variable("v", "integer", resolution=1.0), lambda u, z: torch.round(3 + 5 * z)),
    "bounded": (
        Variable("v", "integer", resolution=1.0, bounds=(0.0, 12.0)),
        lambda u, z: torch.round(6 + 4 * z).clamp(0, 12),
    ),
    "atoms": (
        Variable("v", "real", resolution=0.5, atoms=(1.0, 4.0), bounds=(1.0, None), origin=0.5),
        lambda u, z: torch.where(
            u < 0.3, 1.0, torch.where(u < 0.5, 4.0, half(5 + 2 * z).clamp_min(1.0))
        ),
    ),
    "shifted": (
        Variable("v", "real", resolution=0.25, origin=0.1),
        lambda u, z: 0.1 + 0.25 * torch.round(4 * clusters(u, z)),
    ),
    "hard": (Variable("v", "real"), clusters),
    "soft": (Variable("v", "real"), clusters),
}
LATTICES = ("integer", "bounded", "atoms", "shifted")
every_column = pytest.mark.parametrize("kind", COLUMNS)


def column_of(kind, bins=4, rows=300):
    """Bins of one column, its rows and their weights."""
    variable, make = COLUMNS[kind]
    data = Event(
        make(uniform(rows, seed=1), normal(rows, seed=2))[:, None], uniform(rows, 1, seed=3) < 0.9
    )
    weight = 1 + 2 * (uniform(rows, seed=4) < 0.2).double()
    found = Bins((variable,), plan_bins((variable,), data, weight, bins=bins, soft=kind == "soft"))
    found.start(data, weight)
    return found, data, weight


def recorded(variable):
    """Every value that a column can take (of one without a resolution a fine grid), and how much of
    the line each stands for."""
    if variable.discrete:
        return torch.arange(variable.cardinality).double(), 1.0
    if variable.resolution is None:
        return torch.linspace(-30, 30, 300_001).double(), 60 / 300_000
    value = variable.origin + variable.resolution * torch.arange(-200.0, 200.0).double()
    low, high = (
        end if bound is None else bound
        for end, bound in zip((-INF, INF), variable.bounds, strict=True)
    )
    return value[(value >= low - 1e-9) & (value <= high + 1e-9)], 1.0


def masses(bins, value, volume):
    with torch.no_grad():
        return bins.log_codes(Event(value[:, None]))[:, 0].exp() * volume


@every_column
def test_masses_inside_a_code_sum_to_one(kind):
    bins, _, _ = column_of(kind)
    found = masses(bins, *recorded(bins.variables[0])).sum(0)
    assert len(found) == bins.levels[0] and len(found) > 2
    close(found, torch.ones_like(found), 2e-3 if kind == "hard" else 1e-6)


@every_column
def test_codes_agree_with_log_codes(kind):
    bins, data, _ = column_of(kind)
    with torch.no_grad():
        codes = bins.codes(data)
        told = bins.log_codes(data)[:, 0]
        assert torch.equal(codes.mask, data.mask) and bool((codes.value[~data.mask] == 0).all())
        assert bool((told[~data.mask[:, 0]] == 0).all()) and bool(
            (bins.log_within(data)[~data.mask] == 0).all()
        )
        seen = told[data.mask[:, 0]]
        code = codes.value[data.mask].long()
        if kind == "soft":
            assert bool(bins.hidden) and torch.equal((seen + bins.log_weight[0]).argmax(1), code)
        else:
            assert torch.equal(
                torch.isfinite(seen), torch.nn.functional.one_hot(code, bins.levels[0]).bool()
            )
            close(seen[torch.arange(len(seen)), code], bins.log_within(data)[data.mask])


@every_column
@pytest.mark.parametrize("limited", [False, True])
def test_values_are_drawn_as_often_as_they_are_probable(kind, limited):
    """Of every code, also inside a region, whose share of each code is known as well."""
    bins, data, _ = column_of(kind)
    value, volume = recorded(bins.variables[0])
    mass = masses(bins, value, volume)
    keep = torch.ones(len(value), dtype=torch.bool)
    region = None
    if limited:
        low, high = data.value[data.mask].quantile(torch.tensor([0.2, 0.8]).double()) + 0.013
        keep = (value >= low) & (value <= high)
        region = Region(low[None], high[None])
        if kind in ("category", "rare"):
            region = Region(
                torch.tensor([-INF]).double(), torch.tensor([INF]).double(), {0: value % 2 == 1}
            )
            keep = value % 2 == 1
        inside = (mass * keep[:, None]).sum(0)
        close(bins.log_region(region)[0].exp(), inside, 2e-3 if volume < 1 else 1e-7)
    for code in range(bins.levels[0]):
        wanted = (mass[:, code] * keep).cumsum(0)
        if wanted[-1] > 1e-3:
            draws = (
                bins.sample(torch.full((2000, 1), code), stream(code), region)[:, 0].sort().values
            )
            found = torch.searchsorted(draws, value + 1e-9, right=True) / 2000
            assert float((found - wanted / wanted[-1]).abs().max()) < 0.045


@pytest.mark.parametrize("kind", LATTICES)
def test_edges_lie_between_recorded_cells(kind):
    bins, _, _ = column_of(kind)
    variable = bins.variables[0]
    edges = torch.tensor(bins.plan["columns"][0]["edges"], dtype=torch.float64)
    place = (edges - variable.origin) / variable.resolution - 0.5
    close(place, place.round())
    assert bool((edges.diff() > 0).all()) and 3 <= len(edges) + 1 <= 4 + 2 * len(variable.atoms)
    for atom in variable.atoms:
        near = torch.tensor([atom - variable.resolution, atom, atom + variable.resolution])
        codes = [
            float(code)
            for x, code in zip(near, bins.codes(Event(near.double()[:, None])).value, strict=True)
            if x >= 1
        ]
        assert len(set(codes)) == len(codes)


def test_bins_hold_equal_shares_of_the_rows():
    variable = Variable("x", "real")
    value = torch.arange(40.0).double()
    weight = torch.where(value < 10, 3.0, 1.0).double()  # 60 in all
    found = plan_bins((variable,), Event(value[:, None]), weight, bins=3)["columns"][0]["edges"]
    assert found == [6.5, 19.5]  # the first with 20 rows or more, then with 40
    ordered = Variable("o", "ordered", cardinality=40)
    levels = plan_bins((ordered,), Event(value[:, None]), weight, bins=3)["columns"][0]["levels"]
    assert levels == [0] * 7 + [1] * 13 + [2] * 20
    assert [default_bins(rows) for rows in (10, 300, 1500, 12_000, 10**6)] == [3, 3, 6, 11, 12]


def test_common_levels_keep_codes_and_shares_of_the_rest_are_smoothed():
    bins, data, weight = column_of("rare")
    code = torch.tensor(bins.plan["columns"][0]["levels"])
    count = torch.zeros(90).double()
    for value, seen, w in zip(data.value[:, 0].long(), data.mask[:, 0], weight, strict=True):
        count[value] += float(w) * bool(seen)
    last = code == KEPT - 1
    assert int(last.sum()) == 90 - KEPT + 1 and count[last].max() <= count[~last].min()
    assert code[~last].tolist() == list(range(KEPT - 1))
    share = (count[last] + 0.5) / (count[last] + 0.5).sum()
    close(masses(bins, *recorded(bins.variables[0]))[last, -1], share)


def test_atoms_are_left_out_of_the_marginal():
    variable = Variable("v", "integer", resolution=1.0, atoms=(0.0,))
    value = torch.cat([torch.zeros(300).double(), torch.round(50 + 3 * normal(200))])
    bins = Bins(
        (variable,), plan_bins((variable,), Event(value[:, None]), torch.ones(500).double(), bins=3)
    )
    bins.start(Event(value[:, None]), torch.ones(500).double())
    assert float(bins.leaves.mean.min()) > 45
    mean = float((bins.log_weight.exp() * bins.leaves.mean).sum())
    assert mean == pytest.approx(float(value[300:].mean()), abs=0.2)


def test_a_soft_code_is_no_spike():
    """At least as wide as the bandwidth of a kernel estimate."""
    value = torch.cat([normal(100), torch.full((3,), 7.0).double() + 1e-6 * normal(3, seed=1)])
    bins = Bins(
        (Variable("x", "real"),),
        plan_bins(
            (Variable("x", "real"),), Event(value[:, None]), torch.ones(103), bins=4, soft=True
        ),
    )
    bins.start(Event(value[:, None]), torch.ones(103).double())
    quarter = value.sort().values
    narrowest = 0.9 * float(quarter[77] - quarter[25]) / 1.34 * 103**-0.2
    assert float(bins.leaves.log_scale.min().exp()) == pytest.approx(narrowest, rel=1e-6)


@every_column
def test_peaks_are_worth_what_they_say(kind):
    bins, _, _ = column_of(kind)
    value, height = bins.peaks()
    with torch.no_grad():
        told = bins.log_codes(Event(value.T))[:, 0]
    close(height[0], told.diagonal())
    assert bool(torch.isfinite(height).all())
    if kind in ("category", "rare", "ordered", "many"):
        close(height[0], masses(bins, *recorded(bins.variables[0])).amax(0).log())


def test_the_peak_of_one_component_is_the_likeliest_value_of_its_bin():
    variable = Variable("v", "integer", resolution=1.0)
    bins = Bins((variable,), {"columns": [{"edges": [-1.5, 2.5, 9.5]}], "components": 1})
    bins.leaves.mean.fill_(4.2)
    bins.leaves.log_scale.fill_(1.0)
    assert bins.peaks()[0].tolist() == [[-2, 2, 4, 10]]


# --------------------------------------------------------------------------------------- exact sums


@every_graph
@pytest.mark.parametrize("worth", [0, 8192])
def test_log_prob_is_the_sum_over_missing_cells(graph, worth, monkeypatch):
    """Rows of every pattern together, as groups of their own and as one, many at once and a few."""
    density = GRAPHS[graph]()
    event = some_rows(CODES)
    assert len(event.mask.unique(dim=0)) == 16
    wanted = marginals(joint(density)[0], event)
    for cells in (1 << 21, 60):
        monkeypatch.setattr(elimination, "PATTERN_COST_ENTRIES", worth)
        monkeypatch.setattr(elimination, "MAX_ENTRIES", cells)
        close(density.log_prob(event).detach(), wanted)
    complete = density.log_prob(Event(every(CODES))).detach()
    close(complete, joint(density)[0].flatten())


@every_graph
@pytest.mark.parametrize("worth", [0, 8192])
def test_log_target_is_the_joint_with_each_candidate(graph, worth, monkeypatch):
    monkeypatch.setattr(elimination, "PATTERN_COST_ENTRIES", worth)
    density = GRAPHS[graph](1)
    event = some_rows(CODES)
    got = density.log_target(event, torch.tensor([1.0, 0.0])).detach()
    for k, code in enumerate((1, 0)):
        value = event.value.clone()
        mask = event.mask.clone()
        value[:, 0] = code
        mask[:, 0] = True
        close(got[:, k], marginals(joint(density)[0], Event(value, mask)))


REGION = Region(
    torch.tensor([-INF, 1.0, -INF, -INF]).double(),
    torch.tensor([INF, INF, INF, 2.0]).double(),
    {3: torch.arange(4) != 1},
)
ALLOWED = (
    torch.ones(2).bool(),
    torch.arange(3) > 0,
    torch.ones(2).bool(),
    torch.tensor([True, False, True, False]),
)


def limited_to(table, allowed, mask):
    """The table without what missing cells are known not to be."""
    for d, keep in enumerate(allowed):
        if not mask[d]:
            table = table.masked_fill(
                ~keep.reshape([-1 if axis == d else 1 for axis in range(table.ndim)]), -INF
            )
    return table


@every_graph
def test_regions_limit_the_sums_and_the_draws(graph):
    density = GRAPHS[graph]()
    table = joint(density)[0]
    event = some_rows(CODES, share=0.6, times=1)
    each = [
        cut(limited_to(table, ALLOWED, mask), row, mask).flatten().logsumexp(0)
        for row, mask in zip(*event[:2], strict=True)
    ]
    close(density.log_prob(event._replace(within=REGION)).detach(), torch.stack(each))
    row = torch.tensor([0.0, 0.0, 1.0, 0.0]).double().expand(6000, -1)
    known = torch.tensor([False, False, True, False])
    draws = density.sample_conditional(
        Event(row, known.expand(6000, -1), within=REGION), generator=stream(1)
    ).value
    inside = limited_to(table, (*ALLOWED[:2], torch.arange(2) == 1, ALLOWED[3]), known & False)
    assert apart(draws, inside - inside.flatten().logsumexp(0)) < 0.05


@every_graph
@pytest.mark.parametrize(
    "known", [(False,) * 4, (True, False, False, True), (False, True, True, False)]
)
def test_draws_are_as_frequent_as_they_are_probable(graph, known):
    density = GRAPHS[graph]()
    known = torch.tensor(known)
    row = torch.tensor([1.0, 2.0, 0.0, 3.0]).double()
    table = joint(density)[0]
    fixed = [torch.arange(n) == code for n, code in zip(CODES, row, strict=True)]
    given = limited_to(
        table,
        [keep if held else keep | True for keep, held in zip(fixed, known, strict=True)],
        known & False,
    )
    draws = density.sample_conditional(
        Event(row.expand(6000, -1), known.expand(6000, -1)), generator=stream(0)
    ).value
    assert apart(draws, given - given.flatten().logsumexp(0)) < 0.05
    if not known.any():
        assert apart(density.sample(6000, generator=stream(2)).value, table) < 0.05


@every_graph
def test_modes_are_the_most_probable_completions(graph):
    density = GRAPHS[graph](2)
    event = some_rows(CODES)
    table = joint(density)[0]
    got = density.mode(event)
    assert bool(got.mask.all()) and torch.equal(got.value[event.mask], event.value[event.mask])
    close(
        marginals(table, got),
        torch.stack([cut(table, *row).max() for row in zip(event.value, event.mask, strict=True)]),
    )


@every_graph
def test_statistics_are_expected_counts(graph):
    """Through the hook: a ring does not offer them, but its gradients are the same thing."""
    density = GRAPHS[graph]()
    event = some_rows(CODES, times=1)
    weight = 0.5 + uniform(event.rows)
    table = joint(density)[0]
    total = torch.zeros_like(table)
    for w, row, mask in zip(weight, event.value, event.mask, strict=True):
        fixed = [torch.arange(n) == code for n, code in zip(CODES, row, strict=True)]
        given = limited_to(table, fixed, ~mask)
        total += w * (given - given.flatten().logsumexp(0)).exp()
    got = density._statistics(event, None, weight)
    for index, scope in enumerate(density.scopes):
        count = total.sum([v for v in range(4) if v not in scope])
        close(
            got[f"count.{index}"].detach(), count.permute([sorted(scope).index(v) for v in scope])
        )
    close(got["log_prob"].detach(), (weight * marginals(table, event)).sum())


SCOPES = {
    "chain": [(0, 1), (1, 2), (2, 3), (3, 4)],
    "star": [(0, 2), (1, 2), (2, 3), (2, 4)],
    "ring": [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)],
    "triples": [(4, 2, 0), (1, 3), (3, 2, 1), (0,)],
}


@pytest.mark.parametrize("name", SCOPES)
def test_eliminate_is_the_sum_over_the_full_table(name):
    levels = (3, 2, 4, 2, 3)
    scopes = SCOPES[name]
    tables = [
        normal(5 if index % 2 else 1, *(levels[v] for v in scope), seed=index)
        for index, scope in enumerate(scopes)
    ]
    full = torch.zeros(5, *levels).double()
    for scope, table in zip(scopes, tables, strict=True):
        order = sorted(range(len(scope)), key=lambda axis: scope[axis])
        shape = [levels[v] if v in scope else 1 for v in range(5)]
        full = full + table.permute(0, *(axis + 1 for axis in order)).reshape(-1, *shape)
    order, largest = elimination_order(scopes, levels)
    assert sorted(order) == list(range(5)) and order[-1] == 0
    factors = [Factor(scope, table) for scope, table in zip(scopes, tables, strict=True)]
    total, joined = eliminate(factors, order)
    close(total, full.flatten(1).logsumexp(1))
    assert largest == max(factor.table[0].numel() for factor in joined)
    last = full.flatten(2).logsumexp(2)
    close(joined[-1].table.log_softmax(-1), last.log_softmax(-1))
    close(eliminate(factors, order, lambda table: table.amax(-1))[0], full.flatten(1).amax(1))


def test_orders_are_small_and_give_up_beyond_the_limit():
    assert elimination_order(SCOPES["chain"], [10] * 5)[1] == 100
    # never the hub first
    assert elimination_order([(0, v) for v in range(1, 6)], [3, *[5] * 5])[1] == 15
    assert elimination_order([(5, v) for v in range(5)], [2, 2, 2, 2, 2, 4]) == (
        [1, 2, 3, 4, 5, 0],
        8,
    )
    grid = [(3 * i + j, 3 * i + j + 1) for i in range(3) for j in range(2)] + [
        (i, i + 3) for i in range(6)
    ]
    assert elimination_order(grid, [2] * 9)[1] <= 16
    order, largest = elimination_order(grid, [2] * 9, limit=8)
    assert largest > 8 and len(order) < 9
    assert elimination_order([(0,), (1,)], [7, 2])[1] == 7


def mixed(rows=200, missing=0.0):
    """A category, a bounded integer with an atom, a number, and many ordered levels, all pulled by
    one cause."""
    cause = uniform(rows, seed=5)
    noise = normal(rows, 3, seed=6)
    columns = [
        torch.floor(3 * cause),
        torch.where(noise[:, 0] > 0.8, 5.0, torch.round(4 + 6 * cause + noise[:, 0]).clamp(0, 12)),
        torch.where(cause > 0.5, 3.0, -1.0) + noise[:, 1],
        torch.floor(20 * cause + noise[:, 2]).clamp(0, 19),
    ]
    variables = (
        COLUMNS["category"][0],
        Variable("n", "integer", resolution=1.0, bounds=(0.0, 12.0), atoms=(5.0,)),
        Variable("x", "real"),
        Variable("o", "ordered", cardinality=20),
    )
    value = torch.stack(columns, 1).double()
    return Space((4,), variables), Event(value, uniform(rows, 4, seed=7) >= missing)


MIXED = {
    "net": (BayesNetDensity, BayesNet(bins=3)),
    "tree": (MarkovFieldDensity, MarkovField(bins=3)),
}


@pytest.mark.parametrize("name", MIXED)
def test_values_of_any_kind_are_summed_over_their_codes(name):
    """Soft codes are never known; missing cells say nothing of theirs."""
    (family, config) = MIXED[name]
    (space, data) = mixed(missing=0.3)
    density = family.build(space, config, space.check(data), stream(0))
    density.maximise(density.statistics(data))
    table = joint(density)[0]
    few = space.check(data.take(slice(0, 30)))
    with torch.no_grad():
        told = density.bins.log_codes(few)
        got = density.log_prob(few)
    levels = density.bins.levels
    each = [
        told[:, d, :n].reshape(-1, *[n if axis == d else 1 for axis in range(4)])
        for d, n in enumerate(levels)
    ]
    close(got, (table + sum(each)).flatten(1).logsumexp(1))


# -------------------------------------------------------------------------------- Bayesian networks


def scores_of(codes, levels, weight, **settings):
    return _Scores(codes, levels, weight, BayesNet(**settings))


def small_codes(missing=0.2):
    value = torch.stack([torch.floor(n * uniform(40, seed=n)) for n in (2, 3, 2)], 1)
    return Event(value, uniform(40, 3, seed=9) >= missing), (2, 3, 2), 0.5 + uniform(40, seed=8)


def tally(codes, weight, child, parents):
    """Weights of the rows where all are known: {codes of the parents: {code of the child: weight}},
    and of these rows."""
    found = {}
    total = 0.0
    for row, mask, w in zip(
        codes.value.tolist(), codes.mask.tolist(), weight.tolist(), strict=True
    ):
        if mask[child] and all(mask[p] for p in parents):
            cell = found.setdefault(tuple(row[p] for p in parents), {})
            cell[row[child]] = cell.get(row[child], 0.0) + w
            total += w
    return found, total


@pytest.mark.parametrize("parents", [(), (1,), (0, 1)])
def test_bic_written_out(parents):
    """Log-likelihood at the maximum, scaled up to all rows, less half of log n for every free
    parameter."""
    codes, levels, weight = small_codes()
    found, total = tally(codes, weight, 2, parents)
    likelihood = sum(
        w * math.log(w / sum(cell.values())) for cell in found.values() for w in cell.values()
    )
    whole = float(weight.sum())
    wanted = likelihood * whole / total - 0.5 * math.log(whole) * math.prod(
        levels[p] for p in parents
    )
    assert scores_of(codes, levels, weight)(2, frozenset(parents)) == pytest.approx(
        wanted, abs=1e-9
    )


@pytest.mark.parametrize("parents", [(), (1,), (0, 1)])
def test_bdeu_is_the_product_of_predictions(parents):
    """Row by row, each predicted from those before it and one row of uniform prior."""
    codes, levels, _ = small_codes(missing=0.0)
    combinations = math.prod(levels[p] for p in parents)
    seen = {}
    wanted = 0.0
    for row in codes.value.tolist():
        cell = seen.setdefault(tuple(row[p] for p in parents), [1 / (2 * combinations)] * 2)
        wanted += math.log(cell[int(row[2])] / sum(cell))
        cell[int(row[2])] += 1
    found = scores_of(codes, levels, torch.ones(40).double(), score="bdeu")(2, frozenset(parents))
    assert found == pytest.approx(wanted, abs=1e-9)


def acyclic(parents):
    left = dict(enumerate(map(set, parents)))
    while free := [child for child, own in left.items() if not own & left.keys()]:
        for child in free:
            del left[child]
    return not left


def tangle(rows=2000, size=6, seed=0):
    """Columns that each follow a few before them, in a shuffled order."""
    value = torch.floor(3 * uniform(rows, size, seed=seed))
    for d in range(1, size):
        pull = 2 * (value[:, max(0, d - 3) : d].mean(1) - 1) + 0.6 * normal(
            rows, seed=50 * seed + d
        )
        value[:, d] = torch.round(1 + pull).clamp(0, 2)
    return Event(value[:, torch.randperm(size, generator=stream(seed))]), categories((3,) * size)


def neighbours_of(parents, most):
    """Every acyclic graph one arrow away: one more, one less, or one turned."""
    for child, parent in itertools.permutations(range(len(parents)), 2):
        after = [set(own) for own in parents]
        if parent in after[child]:
            after[child].remove(parent)
            yield [set(own) for own in after]
            after[parent].add(child)
        else:
            after[child].add(parent)
        if acyclic(after) and max(map(len, after)) <= most:
            yield after


GRAPHS_OF_FIVE = {
    "chain": [[], [0], [1], [2], [3]],
    "full nodes": [[], [0], [0, 1], [1, 2], [2, 3]],
    "two roads": [[], [], [0, 1], [0, 1], [2, 3]],
}


@pytest.mark.parametrize("name", GRAPHS_OF_FIVE)
def test_moves_are_all_graphs_one_arrow_away(name):
    score = _Scores(
        Event((uniform(20, 5) < 0.5).double()), (2,) * 5, torch.ones(20).double(), BayesNet()
    )
    search = _Search(
        score, [[d for d in range(5) if d != child] for child in range(5)], (2,) * 5, BayesNet()
    )
    search.parents = [frozenset(own) for own in GRAPHS_OF_FIVE[name]]
    found = [
        tuple(move.get(child, own) for child, own in enumerate(search.parents))
        for move in search._moves()
    ]
    wanted = {tuple(map(frozenset, graph)) for graph in neighbours_of(GRAPHS_OF_FIVE[name], 2)}
    assert set(found) == wanted and len(found) == len(wanted)


@pytest.mark.parametrize("score", ["bic", "bdeu"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_search_ends_where_no_arrow_helps_and_makes_no_cycle(score, seed):
    data, space = tangle(seed=seed)
    config = BayesNet(score=score, largest=10**6)
    weight = torch.ones(2000).double()
    parents = learn_parents(data, space.variables, weight, config)
    worth = _Scores(data, (3,) * 6, weight, config)

    def total(graph):
        return sum(worth(child, frozenset(own)) for child, own in enumerate(graph))

    assert acyclic(parents) and max(map(len, parents)) == 2
    assert all(total(graph) <= total(parents) + 1e-6 for graph in neighbours_of(parents, 2))
    above = _ancestors([frozenset(own) for own in parents])
    for child in range(6):
        reached = set(parents[child])
        for _ in range(6):
            reached |= {grand for parent in reached for grand in parents[parent]}
        assert above[child] == reached


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_v_structure_is_found(seed):
    """Two coins and a noisy AND, the child first: of arrows worth the same the search takes those
    into earlier columns."""
    coins = (uniform(2000, 2, seed=seed) < 0.6).double()
    noise = uniform(2000, seed=10 + seed) < 0.1
    child = torch.where(noise, 1 - coins.prod(1), coins.prod(1))
    data = Event(torch.cat([child[:, None], coins], 1))
    found = learn_parents(
        data, categories((2, 2, 2)).variables, torch.ones(2000).double(), BayesNet()
    )
    assert found == [[1, 2], [], []]


@pytest.mark.parametrize(
    ("most", "largest", "parents"), [(1, 10**6, 1), (3, 10**6, 3), (3, 8, 2), (2, 4, 1)]
)
def test_settings_bound_the_graph(most, largest, parents):
    """What most of three coins say, and a noisy copy of it."""
    coins = (uniform(4000, 3, seed=5) < 0.5).double()
    child = (coins.sum(1) + 0.4 * normal(4000) > 1.5).double()
    copy = torch.where(uniform(4000) < 0.2, 1 - child, child)
    data = Event(torch.stack([child, *coins.T, copy], 1))
    space = categories((2,) * 5)
    config = BayesNet(max_parents=most, largest=largest)
    density = BayesNetDensity.build(space, config, data, stream(0))
    assert max(len(scope) for scope in density.scopes) == 1 + parents
    assert elimination_order(density.scopes, (2,) * 5)[1] <= largest
    assert float(density.log_prob(Event(every((2,) * 5))).detach().exp().sum()) == pytest.approx(1)


def test_parameters_are_smoothed_shares():
    codes, levels, weight = small_codes(missing=0.0)
    density = BayesNetDensity.build(
        categories(levels), BayesNet(smoothing=2.0), codes, stream(0), weight=weight
    )
    again = BayesNetDensity(
        categories(levels), density.config, density.structure | {"scopes": [[0], [1, 0], [2]]}
    )
    again.shares.copy_(density.shares)
    again.maximise(again.statistics(codes, weight=weight))
    alone, _ = tally(codes, weight, 1, ())
    found, _ = tally(codes, weight, 1, (0,))
    table = again._tables()[1].detach().exp()
    for row, child in itertools.product(range(2), range(3)):
        share = (alone[()][child] + 1 / 3) / (float(weight.sum()) + 1)
        wanted = (found[(row,)].get(child, 0.0) + 2 * share) / (sum(found[(row,)].values()) + 2)
        assert float(table[child, row]) == pytest.approx(wanted, abs=1e-12)


def test_rounds_of_em_climb():
    """log p of what is known and the prior of each row of each table."""
    space, data = mixed(missing=0.3)
    data = space.check(data)
    weight = 0.5 + uniform(200, seed=1)
    density = BayesNetDensity.build(space, BayesNet(bins=3), data, stream(0), weight=weight)
    assert max(map(len, density.scopes)) > 1

    def objective():
        tables = zip(density.scopes, density._tables(), strict=True)
        prior = sum(
            (density.shares[scope[0], : len(table)] * table.movedim(0, -1)).sum()
            for scope, table in tables
        )
        return float((weight * density.log_prob(data)).sum().detach() + prior.detach())

    trace = [objective()]
    for _ in range(12):
        density.maximise(density.statistics(data, weight=weight))
        trace.append(objective())
    assert (
        all(after >= before - 1e-9 for before, after in itertools.pairwise(trace))
        and trace[-1] > trace[0] + 1
    )


# ----------------------------------------------------------------------------- Markov random fields


def test_the_tree_has_the_marginals_of_the_data():
    """Of every column and of both ends of every edge: so its parameters are those of highest
    likelihood."""
    data, space = tangle(size=5, rows=600)
    weight = 0.5 + uniform(600)
    density = MarkovFieldDensity.build(
        space, MarkovField(smoothing=1e-9), data, stream(0), weight=weight
    )
    density.maximise(density.statistics(data, weight=weight))
    table = joint(density)[0].exp()
    assert len(density.edges) == 4 and float(joint(density)[1]) == pytest.approx(0, abs=1e-6)
    for scope in density.scopes:
        share = torch.zeros([3] * len(scope)).double()
        share.index_put_(
            tuple(data.value[:, v].long() for v in scope), weight / weight.sum(), accumulate=True
        )
        close(table.sum([v for v in range(5) if v not in scope]), share, 1e-6)
    density.loss(data, weight=weight).backward()
    assert (
        max(float(parameter.grad.abs().max()) for parameter in (density.node, density.edge)) < 1e-6
    )


def test_a_tree_is_smoothed_by_rows_of_independence():
    data, space = tangle(size=3, rows=600)
    density = MarkovFieldDensity.build(space, MarkovField(smoothing=60.0), data, stream(0))
    density.maximise(density.statistics(data))
    (i, j) = density.edges[0]
    table = joint(density)[0].exp()
    share = frequencies(data.value[:, [i, j]], (3, 3)).reshape(3, 3)
    close(table.sum([v for v in range(3) if v not in (i, j)]), (600 * share + 60 / 9) / 660)


def test_edges_of_each_structure():
    """A chain for the tree; the grid's neighbours in all three directions, and a label that touches
    every pixel."""
    steps = (uniform(800, 5) < 0.15).double().cumsum(1) % 2
    order = torch.tensor([3, 0, 4, 1, 2])
    weight = torch.ones(800).double()
    shuffled = Event(steps[:, order])
    space = categories((2,) * 5)
    chain = {
        tuple(sorted((order.tolist().index(k), order.tolist().index(k + 1)))) for k in range(4)
    }
    found = field_edges(MarkovField(), space, shuffled, space, weight)
    assert set(found) == chain and all(i < j for i, j in found)
    dense = field_edges(MarkovField(structure="dense", degree=2), space, shuffled, space, weight)
    assert (
        chain <= set(dense) and len(dense) == len(set(dense)) <= 10 and all(i < j for i, j in dense)
    )
    image = categories((4, *(2,) * 12), grid=(2, 2, 3))
    edges = field_edges(MarkovField(structure="grid"), image, shuffled, image, weight)
    places = list(itertools.product(range(2), range(2), range(3)))
    pairs = itertools.combinations(range(12), 2)
    wanted = {
        (i + 1, j + 1)
        for i, j in pairs
        if sum(abs(a - b) for a, b in zip(places[i], places[j], strict=True)) == 1
    }
    assert set(edges) == wanted | {(0, pixel) for pixel in range(1, 13)} and len(edges) == len(
        set(edges)
    )


PIXELS = ((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5))  # two rows of three


def grid_rows(rows=400, missing=0.0):
    value = (
        (
            uniform(rows, 2, 3)
            + 0.5 * uniform(rows, 1, 3, seed=1)
            + 0.5 * uniform(rows, 2, 1, seed=2)
            > 1
        )
        .double()
        .flatten(1)
    )
    return Event(value, uniform(rows, 6, seed=4) >= missing), categories((2,) * 6, grid=(1, 2, 3))


def test_a_grid_sums_to_one_and_knows_its_constant():
    data, space = grid_rows()
    density = MarkovFieldDensity.build(space, MarkovField(structure="grid"), data, stream(0))
    assert density.normalised and density.capabilities.likelihood is Likelihood.EXACT
    assert sorted(density.edges) == sorted(PIXELS)
    table, constant = joint(density)
    close(density._log_constant().detach(), constant)
    close(density.log_prob(Event(every((2,) * 6))).detach(), table.flatten())


@pytest.mark.parametrize("levels", [CODES, (2, 2, 2, 2)])
def test_pseudo_likelihood_is_the_sum_of_the_conditionals(levels):
    density = field(levels=levels)
    density.total.fill_(7.0)
    table = joint(density)[0]
    rows = every(levels)
    each = [marginals(table.log_softmax(d), Event(rows)) for d in range(4)]
    prior = 0.5 * density.edge.detach().square().sum() / 7
    close(density.losses(Event(rows)).detach(), prior - sum(each))


def test_missing_cells_are_left_out_of_the_pseudo_likelihood():
    """A known cell of which every neighbour is known counts the same; a missing neighbour stands at
    its mean field."""
    density = field(edges=((0, 1), (2, 3)))
    row = torch.tensor([[1.0, 2.0, 1.0, 3.0]]).double()
    halves = [
        density._pseudo(Event(row, torch.tensor([mask])))
        for mask in ((True, True, False, False), (False, False, True, True))
    ]
    close(sum(halves).detach(), density._pseudo(Event(row)).detach())
    alone = density._pseudo(Event(row, torch.tensor([[True, False, False, False]])))
    first = density._tables()[0]
    second = density._tables()[1]
    edge = density._tables()[4]
    neighbour = (second + edge[1]).softmax(0)
    close(alone.detach(), (first + edge @ neighbour).log_softmax(0)[1:].detach())


def test_gradients_of_the_pseudo_likelihood_match_differences():
    density = field()
    weight = 0.5 + uniform(48)
    density.total.fill_(5.0)
    event = Event(every(CODES))
    loss = density.loss(event, weight=weight)
    close(loss.detach(), ((weight * density.losses(event)).sum() / weight.sum()).detach())
    loss.backward()
    for parameter in (density.node, density.edge):
        close(
            parameter.grad,
            differences(lambda: float(density.loss(event, weight=weight)), parameter),
            1e-7,
        )
        assert float(parameter.grad.abs().max()) > 1e-3


def test_rows_are_looked_at_a_few_at_a_time(monkeypatch):
    density = field()
    event = some_rows(CODES)
    whole = density.losses(event).detach()
    monkeypatch.setattr(markov_field, "MAX_ENTRIES", 200)
    close(density.losses(event).detach(), whole)


def test_a_field_with_loops_is_built_near_its_optimum():
    data, space = grid_rows()
    weight = 0.5 + uniform(400)
    density = MarkovFieldDensity.build(
        space, MarkovField(structure="grid"), data, stream(0), weight=weight
    )
    assert float(density.total) == pytest.approx(float(weight.sum()))
    density.loss(data, weight=weight).backward()
    assert (
        max(float(parameter.grad.abs().max()) for parameter in (density.node, density.edge)) < 2e-3
    )


def out_of_reach(monkeypatch, **settings):
    """Z is not summed, nor are missing cells."""
    monkeypatch.setattr(markov_field, "MAX_SUMMED_STATES", 0)
    monkeypatch.setattr(elimination, "PATTERN_COST_ENTRIES", 0)
    return field(largest=1, **settings)


def test_relative_log_p_is_off_by_one_constant(monkeypatch):
    exact = field()
    relative = field(largest=1)
    assert relative.capabilities.likelihood is Likelihood.UNNORMALIZED and not relative.normalised
    event = some_rows(CODES)
    off = (relative.log_prob(event) - exact.log_prob(event)).detach()
    close(off, joint(exact)[1].expand_as(off))
    summed = relative.log_prob(event).detach()
    bound = out_of_reach(monkeypatch).log_prob(event).detach() - summed
    assert float(bound.max()) < 1e-9 and -0.6 < float(bound.min()) < -1e-4
    weak = (
        field(scale=0.1).log_prob(event) - out_of_reach(monkeypatch, scale=0.1).log_prob(event)
    ).detach()
    assert float((weak - weak[event.mask.all(1)].mean()).abs().max()) < 0.02


def test_mean_field_is_exact_where_no_two_share_a_table(monkeypatch):
    """Variable 0 is summed over in full: a star around it has no other sum; nor have neighbours
    that are known."""
    star = {"edges": ((0, 1), (0, 2), (0, 3))}
    exact = field(largest=1, edges=((0, 1), (0, 2), (0, 3)))
    event = some_rows(CODES)
    wanted = exact.log_prob(event).detach()
    target = exact.log_target(event, torch.arange(2)).detach()
    bounded = out_of_reach(monkeypatch, **star)
    close(bounded.log_prob(event).detach(), wanted)
    close(bounded.log_target(event, torch.arange(2)).detach(), target)
    tables = [normal(1, 3, seed=1), normal(4, 2, seed=2), normal(4, 3, seed=3)]
    got = mean_field(
        [Factor((1,), tables[0]), Factor((2,), tables[1]), Factor((1,), tables[2])], [1, 2]
    )
    close(got, (tables[0] + tables[2]).logsumexp(1) + tables[1].logsumexp(1))


@pytest.mark.parametrize("known", [(False,) * 4, (True, False, True, False)])
def test_gibbs_draws_are_as_frequent_as_they_are_probable(known, monkeypatch):
    density = out_of_reach(monkeypatch)
    known = torch.tensor(known)
    row = torch.tensor([1.0, 2.0, 0.0, 3.0]).double()
    fixed = [torch.arange(n) == code for n, code in zip(CODES, row, strict=True)]
    allowed = [keep if held else keep | True for keep, held in zip(fixed, known, strict=True)]
    given = limited_to(joint(density)[0], allowed, known & False)
    draws = density.sample_conditional(
        Event(row.expand(6000, -1), known.expand(6000, -1)), generator=stream(0)
    ).value
    assert apart(draws, given - given.flatten().logsumexp(0)) < 0.05


def test_modes_out_of_reach_cannot_be_bettered_by_one_cell(monkeypatch):
    density = out_of_reach(monkeypatch)
    event = some_rows(CODES)
    table = joint(density)[0]
    got = density.mode(event).value
    assert torch.equal(got[event.mask], event.value[event.mask])
    for d in range(4):
        best = torch.stack([cut(table, row, torch.arange(4) != d).max() for row in got])
        better = (best - marginals(table, Event(got)))[~event.mask[:, d]]
        assert float(better.max()) < 1e-12


# ---------------------------------------------------------------------------- edges of the contract


@every_graph
def test_log_target_counts_the_first_variable_as_known_whatever_the_region_says_of_it(graph):
    model = GRAPHS[graph]()
    rows = Event(torch.zeros(1, 4).double(), torch.tensor([[False, True, True, False]]))
    box = Region(torch.tensor([1.0, -INF, -INF, 1.0]), torch.tensor([1.0, INF, INF, 2.0]))
    each = model.log_target(rows._replace(within=box), torch.arange(2.0))
    free = Region(torch.tensor([-INF, -INF, -INF, 1.0]), torch.tensor([INF, INF, INF, 2.0]))
    known = torch.tensor([[True, True, True, False]])
    for code in range(2):
        value = torch.tensor([[float(code), 0, 0, 0]]).double()
        torch.testing.assert_close(each[:, code], model.log_prob(Event(value, known, within=free)))


@every_graph
def test_no_rows_have_no_counts(graph):
    counts = GRAPHS[graph]().statistics(Event(torch.zeros(0, 4).double())) if graph == "net" else {}
    assert all(not bool(count.any()) for count in counts.values())


def test_a_tree_whose_constant_is_out_of_reach_learns_by_its_pseudo_likelihood():
    """Its log p is relative, and so no loss: it could grow without bound."""
    rows = Event((uniform(60, 2) < torch.tensor([0.7, 0.4])).double())
    model = MarkovFieldDensity.build(categories((2, 2)), MarkovField(largest=1), rows, stream(0))
    assert model.capabilities.objective == "surrogate"
    assert float(model.losses(rows).detach().min()) >= 0
