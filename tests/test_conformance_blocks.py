"""The conformance suite where rows are blocks and records: a table of all their rows passes, and
with one fault planted in it, or in the contract, the check that is there for it finds it."""

import dataclasses

import pytest
import torch
from torch import nn

from conjoin.core import (
    Block,
    Capabilities,
    CapabilityError,
    Config,
    Density,
    Event,
    Record,
    Status,
    categorical,
    density,
    layouts,
)
from conjoin.families import resolve
from conjoin.families.autoregressive.sequence import Sequence
from conjoin.families.chain import Chain, ChainDensity
from conjoin.families.classic.point_cloud import PointCloud, PointCloudDensity
from conjoin.families.multimodal import Multimodal, MultimodalDensity
from conjoin.testing import conformance
from conjoin.testing.block_spaces import agreeing, block_names, tiny_blocks
from conjoin.testing.conformance import CHECKS, cases, run_case
from conjoin.testing.subjects import subject

STRINGS = Sequence(width=8, blocks=1, rate=1e-2)


def outcome(config, check, space):
    """Whether a check passed, and what it said."""
    return conformance._outcome(lambda: run_case(config, space, check))


@dataclasses.dataclass(frozen=True)
class Listed(Config):
    """``wrong`` names the planted fault."""

    wrong: str = ""


class ListedDensity(Density):
    """A table over all rows of a block, or of a record, of codes; one for each class. All else is
    summed from it."""

    config_class = Listed
    flat = False
    conditional = True

    def __init__(self, space, config, structure=None, context_space=None):
        super().__init__(space, config, structure, context_space)
        blocks = space.blocks if space.layout == "record" else (space,)
        told = self.context_space.blocks
        if not all(variable.discrete for block in blocks for variable in block.variables):
            raise ValueError("codes only")
        if told and (len(told) > 1 or told[0].layout != "vector"):
            raise ValueError("one class only")
        self.every = listed(space)
        classes = told[0].variables[0].cardinality if told else 1
        shape = (classes, self.every.rows)
        self.logits = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("log_share", torch.zeros(classes, dtype=torch.float64))
        self.tilt = torch.zeros(self.every.rows, dtype=torch.float64)
        if self.is_wrong("an idle parameter"):
            self.idle = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def is_wrong(self, word):
        return self.config.wrong == word

    @classmethod
    def build(cls, space, config, data, generator, *, weight=None, context=None, **others):
        density = cls(space, config, context_space=others.get("context_space"))
        agree = agreeing(space, data, density.every).double()
        seen = agree / agree.sum(1, keepdim=True)
        code = torch.zeros(data.rows) if context is None else context.value.flatten()
        hot = nn.functional.one_hot(code.long(), len(density.logits)).double()
        with torch.no_grad():
            density.logits.copy_((hot.T @ seen + 0.3).log())
            density.log_share.copy_(hot.mean(0).log())
        if density.is_wrong("shares that are all alike"):
            density.log_share.zero_()
        if density.is_wrong("what is not saved"):
            density.tilt = torch.linspace(0, 1, len(density.tilt)).double()
        if density.is_wrong("built by chance"):
            density.logits.data += 0.01 * torch.rand(density.logits.shape)
        return density

    @property
    def capabilities(self):
        by_token = self.space.layout == "sequence"
        exact = "approximate" if self.is_wrong("a status that is too good") else "exact"
        nothing = {"no null": "none", "a null that leaks": "learned"}
        return Capabilities(
            stochastic=self.is_wrong("calls itself noisy"),
            missing=exact,
            marginals="none" if exact == "approximate" else "any",
            conditionals="any",
            null_context=nothing.get(self.config.wrong, "marginal"),
            features=True,
            typical=True,
            step=by_token,
        )

    def _status_of(self, event):
        return Status.EXACT

    def _table(self, context, rows):
        """(B, G) log p of every row of the list; of all classes where none is told."""
        each = (self.logits + self.tilt).log_softmax(1)
        share = self.log_share.log_softmax(0)[:, None]
        mean = (each + share).logsumexp(0)
        if self.is_wrong("a null of its own") and len(each) > 1:
            mean = each.mean(0).log_softmax(0)
        if self.is_wrong("a null that leaks"):
            mean = mean - 0.1
        for event in context.values():
            code = event.value[:, 0].long()
            code = code[:1].expand(rows) if self.is_wrong("the first context for all") else code
            return torch.where(event.mask, each[code], mean)
        return mean.expand(rows, -1) if len(each) > 1 else each.expand(rows, -1)

    def _agreeing(self, event):
        agree = agreeing(self.space, event, self.every)
        if self.is_wrong("what the first row knows"):
            return agree[:1].expand(event.rows, -1)
        return agree

    def _log_prob(self, event, context, generator):
        agree = agreeing(self.space, event, self.every)
        open_ = agree.sum(1) > 1
        if self.is_wrong("a sum too short") or self.is_wrong("a status that is too good"):
            last = agree & (agree.long().cumsum(1) == agree.sum(1, keepdim=True))
            agree = agree & ~(last & open_[:, None])
        out = torch.where(agree, self._table(context, event.rows), -torch.inf).logsumexp(1)
        if self.is_wrong("a constant"):
            out = out + 0.01
        if self.is_wrong("nothing weighs"):
            out = out - 0.1 * agree.all(1)
        if self.is_wrong("the rows beside it") and event.rows:
            out = out - 0.01 * out.detach().mean()
        if self.is_wrong("reads what is not known"):
            parts = event.values() if isinstance(event, Record) else (event,)
            out = out + sum(1e-3 * part.value.flatten(1).sum(1) for part in parts)
        return out

    def _losses(self, event, context, generator):
        loss = -self._log_prob(event, context, generator)
        if self.is_wrong("another loss"):
            loss = loss + self.logits.square().sum()
        return loss

    def _loss(self, event, context, weight, generator):
        alike = torch.ones_like(weight) if self.is_wrong("weighs all alike") else weight
        return super()._loss(event, context, alike, generator)

    def _drawn(self, log_p, generator):
        generator = None if self.is_wrong("draws by chance") else generator
        log_p = torch.zeros_like(log_p) if self.is_wrong("draws of anything") else log_p
        return self.every.take(categorical(log_p, generator))

    def _sample(self, n, context, generator):
        n = n + self.is_wrong("a row too many")
        return self._drawn(self._table(context, n), generator)

    def _sample_conditional(self, event, context, generator):
        agree = self._agreeing(event)
        agree = agree | True if self.is_wrong("forgets what is known") else agree
        table = self._table(context, event.rows)
        if self.is_wrong("writes into the question") and event["columns"].observed is not None:
            event["columns"].observed.logical_not_()
        return self._drawn(torch.where(agree, table, -torch.inf), generator)

    def _features(self, event):
        agree = agreeing(self.space, event, self.every).double()
        return agree[:, :1] * 0 if self.is_wrong("features of nothing") else agree

    def _fit_typicality(self, event):
        pass

    def _typicality(self, event):
        log_p = self._log_prob(event, self.context_space.check(Record(), event.rows), None)
        return 0.0 * log_p if self.is_wrong("all alike") else log_p

    def _begin(self, rows, context):
        return self._table(context, rows), torch.ones(rows, self.every.rows).bool(), 0

    def _step(self, state, token):
        table, agree, place = state
        capacity = self.every.value.shape[1]
        tokens = self.space.variables[0].cardinality
        target = torch.where(self.every.there, self.every.value, tokens)
        target = torch.cat([target, torch.full((len(target), 1), tokens)], 1)
        if token is not None:
            agree = agree & (target[:, place - 1] == token[:, None])
        each = [
            torch.where(agree & (target[:, place] == v), table, -torch.inf).logsumexp(1)
            for v in range(tokens + 1)
        ]
        log_p = torch.stack(each, 1).log_softmax(1).nan_to_num(-3.0).log_softmax(1)
        if self.is_wrong("steps that forget the end") and place < capacity:
            log_p = torch.cat([log_p[:, :-1], log_p[:, -1:] - 0.5], 1).log_softmax(1)
        return (table, agree, place + 1), log_p


def listed(space):
    """Every row of a block or a record of codes."""
    if space.layout != "record":
        return space.laid.every(space)
    each = [block.laid.every(block) for block in space.blocks]
    places = torch.cartesian_prod(*(torch.arange(event.rows) for event in each)).T
    parts = zip(space.names, each, places, strict=True)
    return Record({name: event.take(place) for name, event, place in parts})


CODES = ("strings", "points", "columns and strings", "strings given class", "points given class")


@pytest.mark.parametrize("space", CODES)
def test_a_table_of_all_rows_passes(space):
    for check in CHECKS:
        passed, detail = outcome(Listed(), check, space)
        assert passed, (check, detail)


WRONG = {
    "a constant": ("normalisation", "strings"),
    "draws of anything": ("samples", "points"),
    "a row too many": ("sample_sizes", "strings"),
    "a sum too short": ("missing_cells", "points"),
    "a status that is too good": ("status", "columns and strings"),
    "nothing weighs": ("nothing_known", "columns and strings"),
    "forgets what is known": ("conditionals", "strings"),
    "what the first row knows": ("conditionals_per_row", "points"),
    "the first context for all": ("contexts", "strings given class"),
    "steps that forget the end": ("step", "strings"),
    "draws by chance": ("seeds", "points"),
    "built by chance": ("build_seeds", "points"),
    "what is not saved": ("saving", "points"),
    "the rows beside it": ("batches", "strings"),
    "writes into the question": ("inputs_unchanged", "columns and strings"),
    "calls itself noisy": ("stochastic", "strings"),
    "an idle parameter": ("gradients", "strings"),
    "another loss": ("score_identity", "strings"),
    "weighs all alike": ("weights", "strings"),
    "features of nothing": ("features", "points"),
    "all alike": ("typical", "strings"),
    "shares that are all alike": ("null_context", "strings given class"),
    "a null of its own": ("null_context", "points given class"),
    "a null that leaks": ("null_context", "strings given class"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_table_fails(wrong):
    check, space = WRONG[wrong]
    passed, detail = outcome(Listed(wrong), check, space)
    assert not passed
    assert "Error" not in detail, "it has to be found, not to crash"


def test_another_loss_is_not_the_likelihood():
    assert not outcome(Listed("another loss"), "loss_is_likelihood", "strings")[0]


def test_a_density_without_a_null_is_refused_without_a_context(monkeypatch):
    case = (Listed("no null"), "null_context", "strings given class")
    assert outcome(*case) == (True, "")
    monkeypatch.setattr(Density, "_asked_context", Density._conditioned)
    passed, detail = outcome(*case)
    assert not passed
    assert "without a context log_prob answers" in detail


# ------------------------------------------------------------ faults of clouds, of the contract


class CarelessDensity(PointCloudDensity):
    """A cloud of points with one fault."""

    wrong = ""

    def _log_prob(self, event, context, generator):
        out = super()._log_prob(event, context, generator)
        return out - event.value.exp().sum((1, 2)) if self.wrong == "overflows" else out

    def _statistics(self, event, context, weight):
        weight = weight * 0 + 1 if self.wrong == "forgets weights" else weight
        return super()._statistics(event, context, weight)

    def _maximise(self, statistics):
        super()._maximise(statistics)
        if self.wrong == "too wide":
            self.log_scale += 0.2


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ("overflows", "extremes"),
        ("forgets weights", "statistics"),
        ("too wide", "expectation_maximisation"),
    ],
)
def test_a_wrong_cloud_fails(wrong, check):
    @dataclasses.dataclass(frozen=True)
    class Careless(PointCloud):
        pass

    Careless.density = type(wrong, (CarelessDensity,), {"wrong": wrong})
    passed, detail = outcome(Careless(), check, "points with numbers")
    assert not passed
    assert "Error" not in detail


def keeps_junk(block, event):
    return block.laid.canonical(block, event)


FAULTS_OF_THE_CONTRACT = {
    # what is patched, by what: the check, and the density and space that it finds it on
    "junk is kept": (
        (Block, "check", keeps_junk),
        ("missing_values_ignored", Listed("reads what is not known"), "points"),
    ),
    "codes are not checked": (
        (Block, "_refuse_wrong", lambda block, value: None),
        ("bad_input", Listed("in vain"), "points"),
    ),
    "every question is a beginning": (
        (density, "_is_prefix", lambda event: True),
        ("capabilities", STRINGS, "strings"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS_OF_THE_CONTRACT)
def test_a_fault_of_the_contract_is_found(fault, monkeypatch):
    patch, (check, config, space) = FAULTS_OF_THE_CONTRACT[fault]
    assert outcome(config, "normalisation", space)[0] or config.wrong
    monkeypatch.setattr(*patch)
    passed, detail = outcome(config, check, space)
    assert not passed
    assert "Error" not in detail


# ----------------------------------------------------------------------------- faults of chains


def chain_of(draws):
    others = (("strings", STRINGS), ("picture", resolve("autoregressive")))
    return Chain(columns="mixture", others=others, draws=draws)


def forgets_regions(layout, event, ways):
    value = torch.where(event.mask, event.value, ways.value)
    return Event(value), torch.ones(event.rows, dtype=torch.bool)


def noise_of_its_own(chain, record, place, ways, noise, shared, own=ChainDensity._drawn):
    return own(chain, record, place, ways, noise, False)


FAULTS_OF_CHAINS = {
    "regions are forgotten": (
        (layouts._Fixed, "filled", forgets_regions),
        ("regions", "columns and picture"),
    ),
    "a status without those of the factors": (
        (ChainDensity, "_statuses", lambda chain, record: []),
        ("status", "columns and picture"),
    ),
    "each row has noise of its own": (
        (ChainDensity, "_drawn", noise_of_its_own),
        ("batches", "number and strings"),
    ),
}


SLOW_FAULTS = {"regions are forgotten", "a status without those of the factors"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=[pytest.mark.slow] * (fault in SLOW_FAULTS))
        for fault in FAULTS_OF_CHAINS
    ],
)
def test_a_wrong_chain_fails(fault, monkeypatch):
    patch, (check, space) = FAULTS_OF_CHAINS[fault]
    config = chain_of(16)
    assert outcome(config, "sample_sizes", space) == (True, "")
    monkeypatch.setattr(*patch)
    passed, detail = outcome(config, check, space)
    assert not passed
    assert "Error" not in detail


# --------------------------------------------------------------- rows that are asked as records

ROWS = Multimodal(columns="mixture", strings={"width": 8, "blocks": 1, "rate": 1e-2})


def test_a_status_of_what_log_p_refuses_is_found(monkeypatch):
    assert outcome(ROWS, "status", "columns and strings") == (True, "")
    monkeypatch.setattr(MultimodalDensity, "_statuses", lambda density, behind: [])
    passed, detail = outcome(ROWS, "status", "columns and strings")
    assert not passed
    assert "do not refuse alike" in detail


def test_what_no_row_of_numbers_says_is_refused_by_its_name():
    density = subject(ROWS, "columns and strings").density
    rows = tiny_blocks("columns and strings").rows.take(slice(0, 2))
    there = torch.ones(2, 2).bool()
    nameless = Event(torch.zeros(2, 2).long(), ~there, there)
    with pytest.raises(CapabilityError, match="exist while their tokens are not known"):
        density.log_prob(rows.updated({"strings": nameless}))


# ------------------------------------------------------------------------------- what was mended


def test_what_a_string_is_known_to_be_short_by_is_not_lost():
    """Alone as beside longer rows: a row of which only the end is known is not one of any
    length."""
    block = tiny_blocks("strings").space
    event = Event(torch.zeros(1, 1).long(), torch.zeros(1, 1).bool(), torch.zeros(1, 1).bool())
    known = block.check(event)
    assert known.mask.tolist() == [[False, True]]
    assert not known.unobserved.any()
    assert block.check(block.unknown(2)).value.shape == (2, 3)


def test_an_event_of_no_rows_is_complete_and_unobserved():
    for name in ("strings", "points"):
        none = tiny_blocks(name).rows.take(slice(0, 0))
        assert none.complete.shape == none.unobserved.shape == (0,)
        assert none.hide(torch.zeros(1).bool()).rows == 0


def test_every_family_of_blocks_has_cases_on_its_layout():
    for family, layout in (
        ("sequence", "sequence"),
        ("point_cloud", "points"),
        ("chain", "record"),
    ):
        spaces = {space for space, _ in cases(family)}
        assert spaces == {
            name for name in spaces if layout == tiny_blocks(name.split(" given ")[0]).space.layout
        }
        assert spaces
    assert not {space for space, _ in cases("naive_bayes")} & set(block_names())


def test_a_family_of_rows_does_not_take_blocks():
    config = resolve("naive_bayes")
    assert "models rows" in outcome(config, "samples", "strings")[1]
    assert "models blocks" in outcome(STRINGS, "samples", "mixed")[1]
