"""Densities on another device: one that the CPU pretends to be, and graphics processors where there
are any (marked ``gpu``)."""

import contextlib
import copy
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from pretend_device import PRETENDED, pretended

import conjoin
from conjoin import JointClassifier
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.strings import parse_smiles
from conjoin.codecs.kinds import codec_for
from conjoin.core import CapabilityError, Edit, Event, Flat, Space, Variable, stream
from conjoin.core.device import choose_device, device_of, entered, moved
from conjoin.families import FAMILIES, of_tables, resolve
from conjoin.testing.block_spaces import same_rows, tiny_blocks
from conjoin.testing.block_subjects import TOLD, told_rows
from conjoin.testing.conformance import _takes
from conjoin.testing.spaces import tiny
from conjoin.training.learners import learner_for
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Progress

PICTURES = (
    *("picture_diffusion", "picture_tokens", "latent_diffusion", "cascade", "pixel_cnn"),
    "illustrated",
)
# of each way to learn one; the battery runs the others
BRIEF = ("naive_bayes", "mixture", "dirichlet_process", "factor_analysis", "topic")
QUICK = {"steps": 2, "points": 2, "sampling_steps": 2, "draws": 4, "size": 0.25}
GPU_TOLERANCE = 1e-6  # relative: float64 sums in another order
GPU_TOLERANCE_OF_PICTURES = 1e-2  # relative: convolutions in float32

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


@pytest.fixture
def there():
    with pretended() as device:
        yield device


def quick(family):
    config = resolve(family)
    more = {"columns": "mixture"} if family == "illustrated" else {}
    return config.set_params(
        **{key: value for key, value in QUICK.items() if key in config.get_params()}, **more
    )


def picture_rows(family):
    """A space of pictures of 8 x 8 pixels, with a column before them where the family needs one."""
    pixels = (Variable("p", "ordered", cardinality=16),) * 64
    before = (Variable("mass", "real"),) if family == "illustrated" else ()
    value = torch.randint(16, (40, 64), generator=stream(0)).double()
    if before:
        value = torch.cat([torch.randn(40, 1, generator=stream(1)).double(), value], 1)
    layout = "vector" if before else "image"
    return Space((value.shape[1],), before + pixels, layout, (1, 8, 8)), value[:16]


def built(family):
    """A density that was built but not trained, and rows for it."""
    config = quick(family)
    if family in PICTURES:
        # the device that is pretended here knows no other precision
        config = config.in_precision("float32")
        space, value = picture_rows(family)
        event = Event(value)
    else:
        name = next(each for each in ("mixed", "numbers", "discrete") if _takes(config, each))
        data = tiny(name)
        space, event = data.space, Event(data.rows[:32])
    density = config.density.build(space, config, event, stream(0))
    return density, event


def answers(density, event):
    """What a density says of a few rows, by the name of what it was asked."""
    able = density.capabilities
    some = event.take(slice(0, 4))
    gaps = some.hide(torch.arange(some.value.shape[1]) == some.value.shape[1] - 1)
    if event.value.shape[1] > 60:
        gaps = some.hide(torch.arange(some.value.shape[1]) >= 40)
    found = {"sample": density.sample(3, generator=stream(1)).value}
    with torch.no_grad():
        found["log_prob"] = density.log_prob(some, generator=stream(2))
        if able.missing != "none" and event.value.shape[1] <= 60:
            found["gaps"] = density.log_prob(gaps, generator=stream(3))
        if able.features:
            found["features"] = density.features(some)
    if able.conditionals in ("any", "approximate") and event.value.shape[1] <= 64:
        found["completed"] = density.sample_conditional(gaps, generator=stream(4)).value
    if able.mode != "none" and event.value.shape[1] <= 60:
        found["mode"] = density.mode(gaps).value
    if able.typical and event.value.shape[1] == 64:
        density.fit_typicality(event)
        found["typical"] = density.typicality(some)
    return found


def taught(density, event):
    """What one step of learning leaves behind."""
    density = copy.deepcopy(density)
    learner = learner_for(density)
    learner.begin()
    weight = torch.ones(event.rows, dtype=torch.float64)
    if density.capabilities.sweeps:
        density.sweep(event, weight=weight, generator=stream(5))
        return density.state_dict()
    if density.capabilities.statistics:
        density.maximise(density.statistics(event, weight=weight))
        return density.state_dict()
    density.train()
    density(event.take(slice(0, 16)), generator=stream(6)).backward()
    return {name: part.grad for name, part in density.named_parameters() if part.grad is not None}


# ------------------------------------------------------------------------------------ the device


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tpu", "device must be one of auto, cpu, cuda, or such as cuda:1, got 'tpu'"),
        ("auto:1", "got 'auto:1'"),
        ("cuda:x", "got 'cuda:x'"),
        ("cpu:1", "device='cpu:1': this machine has only cpu:0"),
        ("cuda:99", "device='cuda:99': this machine has"),
        ("mps", "64-bit numbers"),
    ],
)
def test_a_device_that_cannot_be_is_refused(name, words):
    with pytest.raises(ValueError, match=words):
        choose_device(name)


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device().type == choose_device("cuda").type == "cuda"
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="only cuda:0, cuda:1"):
        choose_device("cuda:2")


def test_nothing_is_entered_on_the_cpu():
    before = torch.overrides._len_torch_function_stack()
    with entered(torch.device("cpu")):
        assert torch.overrides._len_torch_function_stack() == before


def test_noise_is_that_of_the_cpu(there):
    here = [torch.rand(3, generator=stream(0)), torch.randperm(5, generator=stream(0))]
    torch.manual_seed(0)
    dropped = torch.nn.functional.dropout(torch.ones(20), 0.5)
    with entered(there):
        noise = [torch.rand(3, generator=stream(0)), torch.randperm(5, generator=stream(0))]
        torch.manual_seed(0)
        other = torch.nn.functional.dropout(torch.ones(20), 0.5)
        stays = torch.rand(3, generator=stream(0), device="cpu")
    assert all(part.device == there for part in (*noise, other)) and stays.device.type == "cpu"
    for one, two in zip([*here, dropped], [*noise, other], strict=True):
        assert torch.equal(one, two.cpu())


def test_the_pretended_device_refuses_what_a_real_one_refuses(there):
    far = torch.ones(3).to(there)
    for mixed in (
        lambda: far + torch.ones(3),
        lambda: far.numpy(),
        lambda: torch.cat([far, far.cpu()]),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            mixed()
    assert (far + torch.tensor(1.0)).device == there and far.cpu().device.type == "cpu"


def test_a_function_of_the_caller_is_asked_where_the_caller_is(there):
    density, event = built("picture_diffusion")
    some = event.take(slice(0, 2))
    seen = []

    def lead(value):
        seen.append(value.device.type)
        return torch.full_like(value, 0.5) + torch.zeros(value.shape[1])

    how = Edit(4.0, torch.zeros(2), None, lead, stream(0))
    here = density.edit(some, how=how).value
    far = copy.deepcopy(density).to(there).edit(some, how=replace_noise(how)).value
    assert set(seen) == {"cpu"} and torch.equal(here, far)


def replace_noise(how):
    return how._replace(generator=stream(0))


# ------------------------------------------------------------------------------ families, pretended


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in BRIEF else pytest.mark.battery)
        for family in (*of_tables(), *PICTURES)
    ],
)
def test_a_family_computes_on_another_device_as_on_the_cpu(family, there):
    density, event = built(family)
    far = copy.deepcopy(density).to(there)
    assert device_of(far) == there
    here, other = answers(density, event), answers(far, event)
    for asked, answer in here.items():
        assert other[asked].device.type == "cpu", asked
        assert torch.equal(answer.nan_to_num(), other[asked].nan_to_num()), asked
    torch.manual_seed(0)
    learned = taught(density, event)
    torch.manual_seed(0)
    for name, value in taught(far, event).items():
        assert value.device == there, name
        assert torch.equal(learned[name].nan_to_num(), value.cpu().nan_to_num()), name


CLASSES = Space((), (Variable("y", "category", cardinality=2),))
RECORD = (told_rows, TOLD)
CLASS = (lambda label: Event(label[:, None]), CLASSES)
# of each family whose rows are blocks: settings, a space, and what it is told where it can be
OF_BLOCKS = {
    "sequence": ({"width": 8, "blocks": 1}, "strings", RECORD),
    "ngram": ({}, "strings", CLASS),
    "text_mixture": ({"width": 8, "blocks": 1}, "strings", CLASS),
    "point_cloud": ({}, "points with numbers", RECORD),
    "points_flow": (
        {"width": 8, "pair_width": 4, "heads": 2, "layers": (1, 2), "precision": "float32"},
        "centred points",
        RECORD,
    ),
    "chain": ({"columns": "mixture", "draws": 4}, "number and strings", RECORD),
}


def built_of_blocks(family):
    """A density of blocks or records, told a record where it can be, and rows for it."""
    settings, name, (context_of, context_space) = OF_BLOCKS[family]
    data = tiny_blocks(name)
    config = resolve(family).set_params(**settings)
    told = context_of(data.label) if config.density.conditional else None
    context = {} if told is None else {"context": told, "context_space": context_space}
    density = config.density.build(data.space, config, data.rows, stream(0), **context)
    return density, data, told


def answers_of_blocks(density, data, told):
    """What a density of blocks says, by the name of what it was asked."""
    able = density.capabilities
    some = None if told is None else told.take(slice(0, 3))
    rows = data.rows.take(slice(0, 3))
    asked = {"whole": rows} | {each.name: each.event for each in data.questions()}
    found = {"sample": density.sample(3, some, generator=stream(1))}
    with torch.no_grad():
        for name, event in asked.items():
            with contextlib.suppress(CapabilityError):
                found[f"log_prob {name}"] = density.log_prob(event, some, generator=stream(2))
                found[f"completed {name}"] = density.complete(
                    event, some, generator=stream(3)
                ).event
        if able.features:
            found["features"] = density.features(rows)
        if able.typical:
            density.fit_typicality(data.rows)
            found["typical"] = density.typicality(rows)
        if able.step:
            state, found["first step"] = density.step(density.begin(3, some))
            found["second step"] = density.step(state, torch.tensor([0, 1, 1]))[1]
    return found


@pytest.mark.parametrize("family", OF_BLOCKS)
def test_a_family_of_blocks_computes_on_another_device_as_on_the_cpu(family, there):
    density, data, told = built_of_blocks(family)
    far = copy.deepcopy(density).to(there)
    here, other = (answers_of_blocks(each, data, told) for each in (density, far))
    assert here.keys() == other.keys()
    for asked, answer in here.items():
        found = other[asked]
        if torch.is_tensor(answer):  # sums of a product of matrices may come in another order
            assert found.device.type == "cpu", asked
            assert torch.allclose(answer, found, atol=1e-12), asked
        else:
            assert same_rows(answer, found), asked
    losses = [each.loss(data.gaps, told, generator=stream(4)) for each in (density, far)]
    assert torch.equal(losses[0], losses[1].cpu())
    for loss in losses:
        loss.backward()
    for (name, one), (_, two) in zip(
        density.named_parameters(), far.named_parameters(), strict=True
    ):
        assert two.device == there, name
        assert (one.grad is None) == (two.grad is None), name
        assert one.grad is None or torch.allclose(one.grad, two.grad.cpu(), atol=1e-12), name
    if density.capabilities.statistics:
        for each in (density, far):
            each.maximise(each.statistics(data.rows))
        here, other = density.state_dict(), far.state_dict()
        assert all(torch.equal(value, other[name].cpu()) for name, value in here.items())


@pytest.mark.parametrize("family", ["naive_bayes", "vae"])
def test_a_fit_is_broken_off_and_goes_on_there(family, there, tmp_path):
    density, event = built(family)
    weight = torch.ones(event.rows, dtype=torch.float64)
    far = [copy.deepcopy(density).to(there) for _ in range(2)]
    plan = Plan(steps=4, epochs=4, checkpoint=tmp_path / family, every=0)
    train(far[0], event, weight, event, plan, Progress())
    train(density, event, weight, event, replace(plan, checkpoint=None), Progress())
    train(far[1], event, weight, event, replace(plan, resume=True), Progress())
    for name, value in density.state_dict().items():
        assert all(torch.equal(value, each.state_dict()[name].cpu()) for each in far), name


# --------------------------------------------------------------------------- estimators, pretended


@pytest.fixture
def cuda_is_pretended(there):
    """The device "cuda" is the pretended one."""
    places = ("fitting.pipeline", "fitting.learning", "fitting.precision", "model.saving")
    with mock.patch.multiple("conjoin.estimators.base", choose_device=_chosen):
        patches = [mock.patch(f"conjoin.{each}.choose_device", _chosen) for each in places]
        for patch in patches:
            patch.start()
        yield there
        for patch in patches:
            patch.stop()


def _chosen(name="auto"):
    return PRETENDED if name == "cuda" else choose_device(name)


def table(rows=150):
    noise = np.random.default_rng(0)
    X = pd.DataFrame({"a": noise.normal(size=rows).round(2), "b": noise.integers(0, 4, rows)})
    X["c"] = noise.choice(list("xyz"), rows)
    return X.mask(noise.random(X.shape) < 0.03), (X["a"] > noise.normal(0, 0.5, rows)).to_numpy()


def test_a_model_is_fitted_there_saved_and_loaded_anywhere(cuda_is_pretended, tmp_path):
    X, y = table()
    fits = [
        JointClassifier("auto", "naive_bayes", device=device).fit(X, y)
        for device in ("cpu", "cuda")
    ]
    assert device_of(fits[1].model_.joint) == cuda_is_pretended
    paths = [each.save(tmp_path / str(number)) for number, each in enumerate(fits)]
    weights = [(path / "weights.safetensors").read_bytes() for path in paths]
    assert weights[0] == weights[1]
    fits += [conjoin.load(paths[1], device=device) for device in ("cpu", "cuda")]
    assert [device_of(each.model_.joint).type for each in fits] == ["cpu", "meta"] * 2
    some = X.head(12)
    for other in fits[1:]:
        assert np.array_equal(fits[0].score_samples(some), other.score_samples(some))
        assert np.array_equal(fits[0].predict_proba(some), other.predict_proba(some))
        assert fits[0].decide(some, max_error=0.4).equals(other.decide(some, max_error=0.4))
        drawn = [each.sample(5, random_state=1)[0] for each in (fits[0], other)]
        assert drawn[0].equals(drawn[1])
        assert fits[0].impute(some).equals(other.impute(some))


# ---------------------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("family", [*of_tables(), *PICTURES])
def test_a_family_fits_answers_and_draws_on_a_gpu(family):
    density, event = built(family)
    far = copy.deepcopy(density).to("cuda")
    rounding = GPU_TOLERANCE_OF_PICTURES if family in PICTURES else GPU_TOLERANCE
    here, other = answers(density, event), answers(far, event)
    assert here.keys() == other.keys()
    for asked in {"log_prob", "gaps", "features"} & here.keys():
        assert torch.allclose(here[asked], other[asked], rtol=rounding, atol=rounding), asked
    weight = torch.ones(event.rows, dtype=torch.float64)
    train(far, event, weight, event, Plan(steps=3, epochs=3), Progress())
    assert device_of(far).type == "cuda"
    assert torch.isfinite(far.log_prob(event.take(slice(0, 4)), generator=stream(0))).all()
    assert far.sample(3, generator=stream(0)).value.device.type == "cpu"


@pytest.mark.gpu
@needs_gpu
def test_a_model_of_the_gpu_answers_on_the_cpu(tmp_path):
    X, y = table()
    model = JointClassifier("auto", "circuit", device="cuda").fit(X, y)
    again = conjoin.load(model.save(tmp_path / "model"), device="cpu")
    assert np.allclose(model.score_samples(X), again.score_samples(X), rtol=GPU_TOLERANCE)
    assert np.allclose(model.predict_proba(X), again.predict_proba(X), atol=GPU_TOLERANCE)


def test_columns_with_strings_compute_on_another_device_as_on_the_cpu(there):
    data = tiny_blocks("columns and strings")
    flat = Flat(data.space)
    config = resolve("multimodal").set_params(columns="mixture", strings={"width": 8, "blocks": 1})
    rows = flat.join(data.rows)
    density = config.density.build(flat.space, config.suited(flat.space), rows, stream(0))
    far = copy.deepcopy(density).to(there)
    hidden = rows.hide(torch.arange(rows.value.shape[1]) == 0)
    for event in (rows, hidden):
        assert torch.allclose(density.log_prob(event), far.log_prob(event), atol=1e-12)
    here, other = (each.sample(5, generator=stream(0)) for each in (density, far))
    assert torch.equal(here.value, other.value)
    assert torch.allclose(
        density.typicality_of_blocks(rows), far.typicality_of_blocks(rows), equal_nan=True
    )


def test_molecules_in_space_compute_on_another_device_as_on_the_cpu(there):
    water = parse_smiles("O")
    xyz = np.array([[0.0, 0.0, 0.1], [0.0, 0.7, -0.4], [0.0, -0.7, -0.4]])
    rows = [Molecule(water.numbers, water.bonds, water.charges, xyz)] * 4
    codec, rows = codec_for(rows)
    event = codec.fit(rows).encode(rows).event
    config = resolve("molecules").set_params(
        strings={"width": 8, "blocks": 1}, places={"width": 8, "pair_width": 4}
    )
    event = codec.space.check(event)
    density = config.density.build(codec.space, config, event, stream(0))
    far = copy.deepcopy(density).to(there)
    assert torch.allclose(density.log_prob(event), far.log_prob(event), atol=1e-9)
    here, other = (each.sample(3, generator=stream(0)) for each in (density, far))
    assert torch.allclose(here.value, other.value, equal_nan=True)


def test_every_family_is_asked():
    asked = {*of_tables(), *PICTURES, *OF_BLOCKS, "multimodal", "molecules"}
    of_folders = {name for name, each in FAMILIES.items() if each.needs}
    assert asked | of_folders == set(FAMILIES) and not asked & of_folders
    rows = {name for name, each in FAMILIES.items() if "vector" in each.layouts and not each.needs}
    assert rows <= asked and moved((), PRETENDED) == ()
