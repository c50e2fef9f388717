"""Joint models against the formulas that they are named for; what holds for every family is in
test_conformance.py.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from conjoin import JointClassifier
from conjoin.core import CapabilityError, Event, Pair, Region, Space, Status, Variable, stream
from conjoin.core.event import after_one
from conjoin.families import of_tables, resolve
from conjoin.joints.base import flat_space
from conjoin.joints.build import build_joint
from conjoin.joints.class_conditional import ClassConditional
from conjoin.joints.hybrid import Hybrid, Predictor
from conjoin.joints.monolithic import Monolithic
from conjoin.testing.spaces import tiny
from conjoin.training.learners import ExpectationMaximisation
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

ROWS = 90
Y = Space((), (Variable("sort", "category", cardinality=3),))
X = Space((2,), (Variable("mass", "real"), Variable("height", "integer", resolution=1.0)))


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def data(unlabelled=0):
    noise = torch.randn(ROWS, 2, generator=stream(3), dtype=torch.float64)
    y = (torch.arange(ROWS) % 3).double()
    x = torch.stack([1.5 * y + noise[:, 0], (2 * y + noise[:, 1] + 0.5 * noise[:, 0]).round()], 1)
    return Pair(Event(y, torch.arange(ROWS) >= unlabelled), Event(x))


def fitted(family, unlabelled=0, rounds=15):
    pair = data(unlabelled)
    joint = build_joint(resolve(family), Y, X, pair, stream(0))
    train(
        joint,
        pair,
        torch.ones(ROWS, dtype=torch.float64),
        None,
        Plan(epochs=rounds, patience=rounds),
        Progress(),
    )
    return joint


class Table(Predictor):
    """p(y | x) that depends on the sign of the first column only."""

    def __init__(self, strict=False):
        super().__init__()
        self.strict = strict  # whether rows with missing cells are beyond it
        self.logits = nn.Parameter(doubles([2.0, 0.0, -1.0], [-2.0, 0.5, 1.0]))

    def _rows(self, x):
        return self.logits.log_softmax(1)[(x.value[:, 0] > 1.5).long()]

    def log_prob(self, x, y):
        return self._rows(x).gather(1, y.long())

    def covers(self, x):
        return x.mask.all(1) if self.strict else torch.ones(x.rows, dtype=torch.bool)

    def draw(self, x, generator):
        if generator is None:
            return self._rows(x).argmax(1).double()
        return torch.multinomial(self._rows(x).exp(), 1, generator=generator)[:, 0].double()


@pytest.fixture(
    scope="module", params=["naive_bayes", "quadratic_discriminant", "circuit", "mixture"]
)
def joint(request):
    return fitted(request.param)


def test_kind_of_joint_follows_the_family():
    pair = data()
    kinds = {name: type(build_joint(resolve(name), Y, X, pair, stream(0))) for name in of_tables()}
    assert kinds["naive_bayes"] is ClassConditional
    assert kinds["circuit"] is Monolithic
    number = Pair(Event(pair.x.value[:, 0]), Event(pair.x.value[:, 1:]))
    y = Space((), X.variables[:1])
    x = Space((1,), X.variables[1:])
    assert type(build_joint(resolve("naive_bayes"), y, x, number, stream(0))) is Monolithic


def test_flat_space_puts_y_first():
    space = flat_space(Y, X)
    assert [variable.name for variable in space.variables] == ["sort", "mass", "height"]
    assert space.shape == (3,)


@torch.no_grad()
def test_evidence_is_the_sum_over_labels(joint):
    x = data().x
    each = torch.stack(
        [joint.log_prob(Pair(Event(torch.full((ROWS,), float(k)).double()), x)) for k in range(3)],
        1,
    )
    assert torch.allclose(joint.log_joint(x), each)
    assert torch.allclose(joint.log_evidence(x), each.logsumexp(1))
    assert torch.allclose(joint.log_joint(x, doubles(2, 0)), each[:, [2, 0]])


@torch.no_grad()
def test_labels_are_learned(joint):
    pair = data()
    assert (joint.log_joint(pair.x).argmax(1) == pair.y.value).double().mean() > 0.65


def test_numbers_need_their_candidates():
    pair = data()
    y = Space((), X.variables[:1])
    x = Space((1,), X.variables[1:])
    joint = build_joint(
        resolve("mixture"),
        y,
        x,
        Pair(Event(pair.x.value[:, 0]), Event(pair.x.value[:, 1:])),
        stream(0),
    )
    with pytest.raises(ValueError, match="'mass' is a number"):
        joint.log_joint(Event(pair.x.value[:, 1:]))


def test_rows_of_y_and_x_must_agree(joint):
    pair = data()
    with pytest.raises(ValueError, match="y has 2 rows, x has 90"):
        joint.log_prob(Pair(Event(doubles(0, 1)), pair.x))


def test_a_region_of_x_is_a_region_of_the_row():
    """The region of x is shifted past y in a monolithic joint: log p(y, x in box) against draws."""
    joint = fitted("circuit")
    y = doubles(1.0)
    box = Region(doubles(0.5, -math.inf), doubles(2.5, math.inf))
    missing = Event(torch.zeros(1, 2).double(), torch.zeros(1, 2, dtype=torch.bool), within=box)
    with torch.no_grad():
        log_mass = joint.log_prob(Pair(Event(y), missing))
    drawn = joint.sample(40_000, generator=stream(1))
    share = (
        ((drawn.y.value == 1) & (drawn.x.value[:, 0] > 0.5) & (drawn.x.value[:, 0] < 2.5))
        .double()
        .mean()
    )
    assert float(log_mass.exp()) == pytest.approx(float(share), abs=0.01)


def test_the_allowed_codes_of_x_keep_their_column():
    keep = torch.tensor([True, False])
    box = after_one(Region(doubles(-math.inf, 2.0), doubles(math.inf, 3.0), {0: keep}))
    assert box.allowed == {1: keep}
    assert box.low.tolist() == [-math.inf, -math.inf, 2.0]
    assert after_one(None) is None


def test_the_status_of_each_answer():
    exact = Status.EXACT
    near = Status.APPROXIMATE
    base = fitted("circuit", rounds=1)
    assert base.status == {"log_prob": exact, "predict_proba": exact, "sample": exact}
    assert Hybrid(base, Table()).status == {
        "log_prob": exact,
        "predict_proba": exact,
        "sample": near,
    }
    assert Hybrid(base, Table()).capabilities.missing == "approximate"


# -------------------------------------------------------------------------------- class-conditional


@torch.no_grad()
def test_the_prior_counts_the_classes():
    pair = data()._replace(y=Event((torch.arange(ROWS) % 10 == 0).double() * 2))
    joint = build_joint(resolve("naive_bayes"), Y, X, pair, stream(0))
    joint.maximise(joint.statistics(pair))
    assert torch.allclose(joint.log_prior.softmax(0), (doubles(81, 0, 9) + 1) / 93)


def test_unlabelled_rows_move_the_fit_towards_that_of_all_labels():
    full = fitted("naive_bayes")
    few = fitted("naive_bayes", unlabelled=60)
    pair = data(60)
    labelled_only = build_joint(resolve("naive_bayes"), Y, X, pair, stream(0))
    rows = pair.take(pair.y.mask.nonzero()[:, 0])
    train(
        labelled_only,
        rows,
        torch.ones(rows.rows, dtype=torch.float64),
        None,
        Plan(epochs=15, patience=15),
        Progress(),
    )
    held = data().x
    with torch.no_grad():
        near = (few.log_evidence(held) - full.log_evidence(held)).abs().mean()
        assert near < (labelled_only.log_evidence(held) - full.log_evidence(held)).abs().mean()


@torch.no_grad()
def test_a_hidden_label_is_drawn_and_a_known_one_kept():
    joint = fitted("naive_bayes")
    pair = data()
    out = joint.sample_conditional(
        Pair(Event(pair.y.value, torch.arange(ROWS) % 2 == 0), pair.x), generator=stream(0)
    )
    assert torch.equal(out.y.value[::2], pair.y.value[::2])
    assert torch.equal(out.x.value, pair.x.value)


# ------------------------------------------------------------------------------------------- hybrid


@torch.no_grad()
def test_the_hybrid_says_what_its_parts_say(joint):
    hybrid = Hybrid(joint, Table())
    x = data().x
    own = hybrid.predictor.log_prob(x, torch.arange(3).double().expand(ROWS, -1))
    assert torch.allclose(hybrid.log_joint(x), joint.log_evidence(x)[:, None] + own)
    assert torch.allclose(hybrid.log_evidence(x), joint.log_evidence(x))


def test_a_hybrid_draws_x_given_y_by_its_predictor():
    """p(x | y) is proportional to p(x) p(y | x): the share of positive first columns against a sum
    over the base's draws."""
    hybrid = Hybrid(fitted("naive_bayes"), Table())
    hidden = Event(torch.zeros(2000, 2).double(), torch.zeros(2000, 2, dtype=torch.bool))
    drawn = hybrid.sample_conditional(
        Pair(Event(torch.zeros(2000).double()), hidden), generator=stream(5)
    ).x.value
    base = hybrid.base.sample(20_000, generator=stream(6)).x
    with torch.no_grad():
        weight = hybrid.predictor.log_prob(base, torch.zeros(20_000, 1).double())[:, 0].exp()
    expected = weight[base.value[:, 0] > 1.5].sum() / weight.sum()
    assert float((drawn[:, 0] > 1.5).double().mean()) == pytest.approx(float(expected), abs=0.04)
    assert 1 < hybrid.effective_draws <= 64


def test_a_hybrid_trains_both_parts():
    hybrid = Hybrid(fitted("circuit", rounds=1), Table())
    pair = data()
    before = {key: value.clone() for key, value in hybrid.state_dict().items()}
    train(hybrid, pair, torch.ones(ROWS, dtype=torch.float64), None, Plan(epochs=5), Progress())
    moved = {
        key.split(".")[0]
        for key, value in hybrid.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert moved == {"base", "predictor"}


def test_a_hybrid_has_no_sufficient_statistics(joint):
    with pytest.raises(CapabilityError, match="statistics"):
        Hybrid(joint, Table()).statistics(data())


@torch.no_grad()
def test_em_of_a_joint_reaches_the_same_likelihood_as_statistics_say():
    joint = fitted("quadratic_discriminant", unlabelled=30)
    pair = data(30)
    learner = ExpectationMaximisation(joint)
    from conjoin.training.learners import Batch

    objective = learner.step(Batch(pair, torch.ones(ROWS).double(), float(ROWS)), stream(0))
    assert objective <= float(-joint.log_prob(pair).mean()) + 0.05


def test_tiny_spaces_have_a_target_of_each_kind():
    assert tiny("mixed").space.variables[0].discrete
    assert not tiny("numbers").space.variables[0].discrete


def test_residuals_by_table_are_those_of_the_mixture():
    """Both ways of computing p(y | x) of a number agree, and sum to one over the lattice."""
    from conjoin.predictors.linear import Linear
    from conjoin.predictors.residual import Residual

    generator = stream(0)
    x_space = Space((1,), (Variable("x", "real"),))
    x = Event(torch.randn(400, 1, generator=generator, dtype=torch.float64))
    y = x.value[:, 0] + (0.2 + x.value[:, 0].abs()) * torch.randn(
        400, generator=generator, dtype=torch.float64
    )
    for width in (0.0, 0.1):
        residual = Residual(Linear(x_space, (1, 1)), 64, 5, width).fit(
            torch.zeros(400, dtype=torch.float64), y
        )
        grid = torch.arange(-400, 401, dtype=torch.float64)[None].expand(5, -1) * 0.1
        rows = x.take(slice(0, 5))
        exact = residual.log_prob(rows, grid.clone().requires_grad_()).detach()
        with torch.no_grad():
            table = residual.log_prob(rows, grid)
        torch.testing.assert_close(table[:, 300:500], exact[:, 300:500], atol=5e-3, rtol=1e-3)
        total = table.exp().sum(1) * (1.0 if width else 0.1)
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-2, rtol=0)


def test_where_the_predictor_has_nothing_to_say_the_family_speaks(joint):
    pair = data()
    cells = torch.zeros_like(pair.x.mask)
    cells[::2, 0] = True
    x = Event(pair.x.value).hide(cells)
    hybrid = Hybrid(joint, Table(strict=True))
    mixed = hybrid.log_joint(x).log_softmax(1)
    torch.testing.assert_close(mixed[::2], joint.log_joint(x).log_softmax(1)[::2])
    torch.testing.assert_close(mixed[1::2], hybrid.predictor._rows(x)[1::2])
    for k in range(3):
        label = Event(torch.full((x.rows,), float(k)).double())
        torch.testing.assert_close(
            hybrid.log_prob(Pair(label, x)) - hybrid.log_evidence(x), mixed[:, k]
        )


@pytest.mark.parametrize("family", ["circuit", "mixture"])
def test_tables_of_few_distinct_rows_are_learned(family):
    """Most rows are repeats where columns have few levels: each counts, or there is one state only,
    and every column is independent of y."""
    rng = np.random.default_rng(0)
    y = rng.choice(["cat", "dog"], 400)
    X = pd.DataFrame({"is": np.where(y == "cat", "p", "r"), "noise": rng.choice(["u", "v"], 400)})
    model = JointClassifier(family=family, random_state=0, predictor=None).fit(X, y)
    assert model.score(X, y) > 0.99
    age = pd.DataFrame({"age": (rng.normal(4, 1, 400) + 3 * (y == "dog")).round()})
    model = JointClassifier(family=family, random_state=0, predictor=None).fit(age, y)
    assert model.score(age, y) > 0.9
    drawn = model.sample(1000, y="dog", random_state=0)[0]["age"]
    assert abs(drawn.mean() - 7) < 0.5
