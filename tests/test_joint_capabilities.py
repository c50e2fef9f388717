"""Every kind of joint over every family: what it declares can be called, what it does not declare
is refused in words. One table, no numbers; nothing is trained."""

import pytest
import torch

from conjoin.core import Block, CapabilityError, Edit, Event, Pair, Variable, stream
from conjoin.families import FAMILIES, resolve
from conjoin.joints import (
    ClassConditional,
    Hybrid,
    Independent,
    Monolithic,
    flat_space,
)
from conjoin.joints.reweighted import Reweighted
from conjoin.joints.shared_backbone import LabelConditioned, SharedBackbone
from conjoin.predictors.classifier import Classifier
from conjoin.predictors.features import Features
from conjoin.testing.spaces import CLASSES, tiny
from conjoin.testing.subjects import LinearPredictor

# as small as they are made, wherever a family has the setting
SMALL = {
    "draws": 2,
    "particles": 2,
    "width": 8,
    "beam": 2,
    "calls": 4,
    "paths": 2,
    "probes": 1,
    "points": 4,
    "sampling_steps": 2,
    "blocks": 1,
    "walk": 1,
    "solver": 1,
}
# where ``size`` is the width of a picture's network
OF_PICTURES = {"size": 0.125, "columns": "mixture", "precision": "float32"}
SPACES = ("mixed", "discrete", "numbers", "columns and image", "image", "channels")
WORD = Block("word", "sequence", (3,), (Variable("letter", "category", 2),))
LEARNED = 24  # rows that a density is built from
ROWS = 2  # that questions are asked about


def small(family):
    config = resolve(family)
    settings = config.get_params()
    wanted = SMALL | (OF_PICTURES if isinstance(settings.get("size"), float) else {})
    return config.set_params(**{key: wanted[key] for key in settings.keys() & wanted.keys()})


def built(config, space, event, **told):
    return config.density.build(space, config, event, stream(0), **told)


def of_x(config, x, event, y):
    """Its density of x without y."""
    return built(config, x, event)


def given_y(config, x, event, y):
    """Its density of x given y."""
    if not config.density.conditional:
        raise ValueError("it models no p(x | y)")
    return built(config, x, event, context=y, context_space=CLASSES)


def class_conditional(*case):
    return ClassConditional(given_y(*case), CLASSES)


def monolithic(config, x, event, y):
    space = flat_space(CLASSES, x)
    row = Event(torch.cat([y.value[:, None], event.value], 1))
    return Monolithic(built(config, space, row), CLASSES, x)


def independent(*case):
    return Independent(of_x(*case), CLASSES)


def label_conditioned(*case):
    return LabelConditioned(given_y(*case), CLASSES)


def bases(*case):
    """The joints that others stand on, as many as the family has."""
    found = []
    makers = [class_conditional, monolithic, independent]
    if case[0].density.shared_backbone:  # p(y | x) is learned on its features
        makers.append(label_conditioned)
    for make in makers:
        try:
            found.append(make(*case))
        except (ValueError, CapabilityError):
            continue
    return found


def hybrid(base):
    return Hybrid(base, LinearPredictor(base.space.y, base.space.x, stream(1)))


def reweighted(base):
    return Reweighted.of(base, torch.tensor([0.5, -0.5]).double())


def shared_backbone(base, some):
    width = base.density.features(some).shape[1]
    return SharedBackbone(base, Classifier(Features(base.density, (2, width)).start(some)))


def joints(*case):
    """One of each kind that the family can be in this space."""
    found = bases(*case)
    if not found:
        return []
    above = [hybrid(found[-1]), reweighted(found[0])]
    if type(found[-1]) is LabelConditioned and found[-1].density.shared_backbone:
        above.append(shared_backbone(found[-1], case[2]))
    return found + above


def calls(joint, learned, box):
    """Capability -> whether it is declared, and what calls it."""
    able = joint.capabilities
    pair = learned.take(slice(0, ROWS))
    hidden = torch.arange(pair.x.value.shape[1]) > 0
    some = pair._replace(x=Event(pair.x.value, hidden.expand_as(pair.x.value)))
    beginning = pair._replace(x=Event(pair.x.value, ~hidden.expand_as(pair.x.value)))
    boxed = some._replace(x=some.x._replace(within=box))
    how = Edit(1.0, torch.zeros(pair.rows))
    return {
        "log_prob": (True, lambda: joint.log_prob(pair, generator=stream(0))),
        "losses": (True, lambda: joint.losses(pair, generator=stream(0))),
        "sample": (True, lambda: joint.sample(2, generator=stream(0))),
        "missing": (able.missing != "none", lambda: joint.log_prob(some, generator=stream(0))),
        "conditionals": (
            able.conditionals in ("any", "approximate"),
            lambda: joint.sample_conditional(some, generator=stream(0)),
        ),
        "prefix": (
            able.conditionals in ("any", "approximate", "prefix"),
            lambda: joint.sample_conditional(beginning, generator=stream(0)),
        ),
        "mode": (able.mode != "none", lambda: joint.mode(some)),
        "regions": (able.regions, lambda: joint.log_prob(boxed, generator=stream(0))),
        "regions of draws": (
            able.regions and able.conditionals != "none",
            lambda: joint.sample_conditional(boxed, generator=stream(0)),
        ),
        "statistics": (able.statistics, lambda: joint.maximise(joint.statistics(pair))),
        "sweeps": (able.sweeps, lambda: joint.sweep(pair, generator=stream(0))),
        "features": (able.features, lambda: joint.features(pair)),
        "typical": (able.typical, lambda: [joint.fit_typicality(learned), joint.typicality(pair)]),
        "edits": (able.edits, lambda: joint.edit(pair, how=how)),
        "unfolds": (able.unfolds, lambda: joint.unfold(2, generator=stream(0))),
        "distils": (able.distils, lambda: joint.distil(1)),
        "step": (able.step, lambda: joint.step(joint.begin(2))),
    }


def check_joint(joint, learned, box):
    """Every capability that is declared is called; the others are refused."""
    for name, (declared, call) in calls(joint, learned, box).items():
        if declared:
            call()
        elif name not in ("missing", "regions", "prefix"):  # some patterns are open to all
            with pytest.raises(CapabilityError, match="was asked for"):
                call()


@pytest.mark.parametrize(
    "family",
    [name for name, each in FAMILIES.items() if resolve(name).density.flat and not each.needs],
)
def test_what_a_joint_declares_can_be_called(family):
    cases = ((tiny(name), small(family)) for name in SPACES)
    kinds = set()
    for space, config in cases:
        x = Event(space.rows[:LEARNED])
        y = Event(space.label[:LEARNED])
        for joint in joints(config, space.space, x, y):
            check_joint(joint, Pair(y, x), space.box())
            kinds.add(joint.kind)
        if kinds:
            return
    pytest.fail("no joint of it was built")


def test_joints_of_strings_declare_what_can_be_called():
    """Strings are no row, so that a joint over them is class-conditional or independent."""
    words = WORD.check(WORD.laid.every(WORD))
    y = Event((torch.arange(words.rows) % 2).double())
    config = small("sequence")
    for make in (class_conditional, independent, label_conditioned):
        joint = make(config, WORD, words, y)
        assert not joint.capabilities.step
        with pytest.raises(CapabilityError, match="was asked for"):
            joint.begin(2)
        if joint.capabilities.typical:
            joint.fit_typicality(Pair(y, words))
            assert joint.typicality(Pair(y, words)).shape == (words.rows,)
        assert joint.features(Pair(y, words)).shape[0] == words.rows
