"""A joint model of molecules in space: the chain, its questions, files, metrics, report."""

import dataclasses
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin.chemistry.environments import environment_keys
from conjoin.chemistry.graph import Molecule
from conjoin.chemistry.measures import (
    angles_at,
    internal_of,
    lengths_at,
    stability_of,
    torsions_at,
)
from conjoin.chemistry.strings import parse_smiles
from conjoin.codecs.kinds import codec_for
from conjoin.codecs.molecule.files import read_file, write_file
from conjoin.core import Event, Likelihood, Pair, Status, stream
from conjoin.core.capabilities import CapabilityError, weakest
from conjoin.families.molecules import Molecules, MoleculesDensity
from conjoin.predictors import geometry
from conjoin.report.space import drawing

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import space_metrics

TINY = Molecules(
    strings={"width": 16, "blocks": 1},
    places={"width": 16, "pair_width": 8, "heads": 2, "layers": (1, 1), "solver": 3},
    steps=4,
)
NAMES = ("O", "C", "CO", "CC", "C=O", "C#N", "N", "CN")


def placed(text, seed):
    """A molecule whose atoms lie on a spiral, shaken a little."""
    graph = parse_smiles(text)
    noise = np.random.default_rng(seed).normal(scale=0.05, size=(len(graph), 3)).round(3)
    turn = np.arange(len(graph))
    xyz = np.stack([np.cos(turn), np.sin(turn), 0.5 * turn], 1).round(3)
    return Molecule(graph.numbers, graph.bonds, graph.charges, xyz + noise)


@pytest.fixture(scope="module")
def some():
    return [placed(NAMES[row % len(NAMES)], row) for row in range(160)]


@pytest.fixture(scope="module")
def model(some):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return conjoin.JointDensity(family=TINY, random_state=0).fit(some)


@pytest.fixture(scope="module")
def density(some):
    codec, rows = codec_for(some[:24])
    codec.fit(rows)
    event = codec.space.check(codec.encode(rows).event)
    return codec, event, MoleculesDensity.build(codec.space, TINY, event, stream(0))


def test_points_with_bonds_get_their_family(model):
    assert model.model_.card["family"] == "molecules"
    plain = conjoin.families.suited(conjoin.families.resolve("circuit"), model.model_.codec.space)
    assert isinstance(plain, Molecules)


def test_log_p_is_that_of_the_factors(density):
    codec, event, joint = density
    record = joint._as_record(event)[0]
    string, graph, places = joint.chain.factors
    parts = string.log_prob(record["string"]) + graph.log_prob(
        record["graph"], record.only(["string"])
    )
    parts = parts + places.log_prob(record["places"], record.only(["graph"]))
    assert torch.allclose(joint.log_prob(event), parts)
    assert graph.log_prob(record["graph"], record.only(["string"])).tolist() == [0.0] * 24
    assert codec.space.name == joint.space.name


def test_log_p_is_worth_what_a_bound_and_a_solver_are(density):
    """Other strings write the same graph, and the places come from a solver."""
    _, event, joint = density
    strings, graph, places = joint.chain.factors
    assert strings.capabilities.likelihood is Likelihood.EXACT
    assert graph.capabilities.likelihood is Likelihood.EXACT
    assert places.capabilities.likelihood is Likelihood.APPROXIMATE
    assert weakest(Likelihood.LOWER_BOUND, Likelihood.EXACT) is Likelihood.LOWER_BOUND
    assert joint.capabilities.likelihood is Likelihood.APPROXIMATE
    assert joint.status_of(event) is Status.APPROXIMATE
    assert joint.status_of_draws is Status.APPROXIMATE


def test_no_order_pose_or_mirror_changes_log_p(density):
    _, event, joint = density
    noise = torch.Generator().manual_seed(0)
    width = event.value.shape[1]
    changed = event.value[:4].clone()
    observed = event.mask[:4].clone()
    present = event.present[:4].clone()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=noise).double())[0]
    for row in range(4):
        size = int(present[row].sum())
        order = torch.cat([torch.randperm(size, generator=noise), torch.arange(size, width)])
        columns = torch.cat([torch.arange(4), 4 + order])
        changed[row] = changed[row][order]
        changed[row, :, 4 : 4 + width] = changed[row][:, columns[4:]]
        changed[row, :size, 1:4] = -changed[row, :size, 1:4] @ turn + 3.0
    other = Event(changed, observed, present)
    old = joint.log_prob(event.take(slice(0, 4)))
    assert (joint.log_prob(other) - old).abs().max() < 1e-5


def test_a_string_that_writes_no_graph_is_a_molecule_without_atoms(density):
    _, event, joint = density
    record = joint._as_record(event.take(slice(0, 1)))[0]
    string = record["string"]
    letter = joint.vocabulary.texts.index("=")
    broken = string._replace(value=torch.full_like(string.value, letter))
    graph = joint.chain.factors[1].sample(1, record.updated({"string": broken}).only(["string"]))
    assert not graph.value.any()
    whole = joint.chain.factors[1].sample(1, record.only(["string"]))
    assert torch.equal(whole.value, record["graph"].value)


def test_a_graph_alone_has_the_log_p_of_its_string(density):
    codec, _, joint = density
    alone = codec.space.check(codec.evidence({"molecule": "CO"}))
    string = joint._as_record(alone)[0]["string"]
    assert torch.allclose(joint.log_prob(alone), joint.chain.factors[0].log_prob(string))


def test_log_p_of_some_places_is_refused(density):
    _, event, joint = density
    one = event.take(slice(2, 3))
    hidden = torch.zeros_like(one.mask)
    hidden[:, 3, 1:4] = True
    with pytest.raises(CapabilityError, match="a part of a molecule's places"):
        joint.log_prob(one._replace(observed=one.mask & ~hidden))


def test_conformers_have_the_graph_that_is_asked_for(model):
    found, _ = model.sample(3, given={"molecule": "OC"}, random_state=0)
    assert [one.smiles for one in found] == ["CO"] * 3
    assert all(np.isfinite(one.xyz).all() for one in found)
    assert np.abs(found[0].xyz - found[1].xyz).max() > 0.01


def test_known_places_stay_where_they_are(model, some):
    whole = model.model_.rows(some[:3]).molecules[2]
    xyz = whole.xyz.copy()
    xyz[4:] = np.nan
    part = dataclasses.replace(whole, xyz=xyz)
    for found in model.impute([part], n_draws=2, random_state=0):
        assert (found[0].xyz[:4] == whole.xyz[:4]).all()
        assert np.isfinite(found[0].xyz).all()
    best = model.impute([part])
    assert np.isfinite(best[0].xyz).all()


def test_a_strange_geometry_is_unfamiliar_and_its_atoms_are_named(model, some):
    one = model.model_.rows(some[:3]).molecules[2]
    xyz = one.xyz.copy()
    xyz[0] += 40.0
    told = model.decide([one, dataclasses.replace(one, xyz=xyz)])
    assert told["verdict"].iloc[1] == "unfamiliar"
    assert "C1" in told["reason"].iloc[1]
    assert "is expected" in told["reason"].iloc[1]


def test_an_element_that_the_fit_never_saw_is_unfamiliar(model, some):
    other = placed("CF", 0)
    told = model.decide([other])
    assert told["verdict"].tolist() == ["unfamiliar"]
    assert "an atom that the fit never saw" in told["reason"].iloc[0]


def test_a_bond_that_the_fit_never_saw_is_unfamiliar(model, some):
    """Nitrogen and oxygen were seen, a bond of both was not; nor a double bond of C and N."""
    told = model.decide([placed("NO", 0), placed("C=N", 0), *some[:40]])
    assert told["verdict"].tolist()[:2] == ["unfamiliar"] * 2
    assert "the bond of N1 and O2 in NO: the fit never saw" in told["reason"].iloc[0]
    assert "the bond of" in told["reason"].iloc[1]
    assert (told["verdict"][2:] == "unfamiliar").mean() <= 0.15
    density = model.model_.density_of_x
    event = model.model_.encode(some[:40]).event
    assert not density._never_seen(density._as_record(event)[0]["graph"]).any()
    assert len(density.bonds) == len({*density.bonds.tolist()}) > 4


def test_all_pairs_of_atoms_count_whatever_the_network_expects(density):
    """A network that has hardly learned may expect negative distances."""
    _, event, joint = density
    flow = joint.chain.factors[2]
    last = flow.flow.net.trunk.distance
    kept = last.bias.detach().clone()
    far = event.value[:1].clone()
    far[0, 0, 1:4] += 40.0
    strange = event.take(slice(0, 1))._replace(value=far)
    with torch.no_grad():
        last.bias[0] -= 50.0
        found = [joint._readings(each)[:, 0] for each in (event.take(slice(0, 1)), strange)]
        last.bias.copy_(kept)
    assert found[1] > found[0]


def test_models_of_earlier_versions_know_no_bonds_and_draw_as_before(density):
    """Their folders say nothing of either."""
    codec, event, joint = density
    kept = {k: v for k, v in joint.structure.items() if k not in ("bonds", "sampler")}
    old = MoleculesDensity(codec.space, TINY, kept)
    assert not old._never_seen(old._as_record(event)[0]["graph"]).any()
    assert old.chain.factors[2].config.sampler == "extrapolated"
    assert joint.chain.factors[2].config.sampler == "corrected"


def test_a_saved_model_answers_the_same(model, some, tmp_path):
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.score_samples(some[:4]), model.score_samples(some[:4]))
    assert again.model_.status == model.model_.status
    assert model.model_.status["log_prob"].value == "approximate"
    assert model.model_.status["sample"].value == "approximate"


def test_the_command_line_reads_and_writes_molecules(model, some, tmp_path):
    from typer.testing import CliRunner

    from conjoin.cli.verbs import app

    model.save(tmp_path / "model")
    run = CliRunner().invoke
    out = tmp_path / "new.sdf"
    asked = ["sample", str(tmp_path / "model"), "-n", "3", "--seed", "1", "-o", str(out)]
    told = run(app, [*asked, "--given", "molecule=CO"])
    assert told.exit_code == 0, told.output
    assert [one.smiles for _, one in read_file(out)] == ["CO"] * 3
    told = run(app, [*asked, "-o", str(tmp_path / "new.csv.zip"), "--force"])
    assert told.exit_code != 0
    write_file(some[:48], tmp_path / "old.sdf")
    fit = ["fit", str(tmp_path / "old.sdf"), "--family", "molecules:steps=2"]
    told = run(app, [*fit, "-o", str(tmp_path / "other")])
    assert told.exit_code == 0, told.output
    told = run(app, [*fit, "--target", "y", "-o", str(tmp_path / "third")])
    assert "no molecule has a field 'y'; the fields are" in str(told.exception)
    told = run(app, ["decide", str(tmp_path / "model"), str(tmp_path / "old.sdf")])
    assert told.exit_code == 0, told.output


@pytest.mark.parametrize("whole", [0, 1])
def test_the_number_of_molecules_that_are_written_is_told(model, tmp_path, monkeypatch, whole):
    from typer.testing import CliRunner

    from conjoin.cli.verbs import app

    model.save(tmp_path / "model")
    drawn = [None, None, *[placed("[CH3][NH3]", row) for row in range(whole)]]
    monkeypatch.setattr(type(model), "sample", lambda *args, **options: (drawn, None))
    out = tmp_path / "new.sdf"
    told = CliRunner().invoke(app, ["sample", str(tmp_path / "model"), "-o", str(out)])
    if whole:
        assert "1 molecule lies in" in told.output
        assert "1 of the 1 molecules are read back by --skip-broken alone" in told.output
        assert len(list(read_file(out))) == 1
        return
    assert told.exit_code != 0
    assert "Of 2 draws none is a string that writes a molecule" in str(told.exception)
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_answers_have_the_numbers_of_the_file(model, some, tmp_path):
    from typer.testing import CliRunner

    from conjoin.cli.verbs import app

    model.save(tmp_path / "model")
    water = "3\n\nO 0 0 0.117\nH 0 0.757 -0.469\nH 0 -0.757 -0.469\n"
    (tmp_path / "bad.xyz").write_text(water + "0\nnone\n" + water)
    asked = ["decide", str(tmp_path / "model"), str(tmp_path / "bad.xyz"), "--skip-broken"]
    told = CliRunner().invoke(app, [*asked, "-o", str(tmp_path / "told.csv")])
    assert told.exit_code == 0, told.output
    text = (tmp_path / "told.csv").read_text()
    assert "bad.xyz 1" in text
    assert "bad.xyz 3" in text
    assert "bad.xyz 2" not in text


def test_charged_molecules_are_not_given(model):
    with pytest.raises(ValueError, match=r"asks for 'C\[O-\]', which has the total charge -1"):
        model.sample(1, given={"molecule": "C[O-]"})


def test_the_report_shows_molecules_and_asks_nothing_of_the_network(model, some, tmp_path):
    page = conjoin.report.write_report(model, tmp_path / "report.html", some[:30])
    text = page.read_text()
    assert "Molecules that the model draws" in text
    assert 'src="http' not in text
    assert "$3Dmol" in text or "there is none to show" in text


def test_a_drawing_has_a_circle_for_each_atom_and_a_line_for_each_bond(some):
    svg = drawing(some[2])
    assert svg.count("<circle") == len(some[2])
    assert svg.count("<line") == 5


# ---------------------------------------------------------------------- measures


def ethane(turn):
    """Staggered at 60 degrees, lengths 1.54 and 1.09 Angstrom."""
    graph = parse_smiles("CC")
    xyz = [[0, 0, 0], [1.54, 0, 0]]
    for end, side, start in ((0.0, -1, 0.0), (1.54, 1, turn)):
        for place in range(3):
            around = math.radians(start + 120 * place)
            y, z = math.cos(around), math.sin(around)
            xyz.append([end + side * 0.3633, 1.0277 * y, 1.0277 * z])
    return Molecule(graph.numbers, graph.bonds, graph.charges, np.array(xyz), smiles="CC")


def test_lengths_angles_and_torsions_of_ethane():
    one = ethane(60)
    inside = internal_of(one)
    assert lengths_at(one.xyz, inside.bonds[inside.heavy]).tolist() == [1.54]
    assert lengths_at(one.xyz, inside.bonds[~inside.heavy]) == pytest.approx(1.09, abs=1e-3)
    assert angles_at(one.xyz, inside.angles).max() < 112
    assert len(inside.angles) == 12
    assert torsions_at(one.xyz, inside.torsions).tolist() == pytest.approx([60.0])
    assert torsions_at(-one.xyz, inside.torsions).tolist() == pytest.approx([60.0])


def test_rings_have_no_torsions_and_stability_counts_atoms():
    assert len(internal_of(placed("C1CC1", 0)).torsions) == 0
    one = ethane(60)
    assert stability_of(one).stable
    far = dataclasses.replace(one, xyz=one.xyz + np.eye(8, 3) * 3)
    assert not stability_of(far).connected
    assert stability_of(far).stable_atoms < 8


def test_wilson_is_that_of_the_textbook():
    """Of 10 hits in 20: .299 to .701 (E. Wilson (1927))."""
    assert space_metrics.wilson(10, 20) == pytest.approx((0.5, 0.2993, 0.7007), abs=1e-4)


def test_torsions_that_are_alike_do_not_diverge():
    turns = np.linspace(0, 180, 400)
    drawn = [ethane(turn) for turn in turns]
    assert space_metrics.divergence(*[space_metrics.torsions_of(drawn)] * 2) == 0
    same = [ethane(5.0)] * 100
    other = [ethane(55.0)] * 100
    found = space_metrics.divergence(*map(space_metrics.torsions_of, (same, other)))
    assert found == pytest.approx(math.log(2))


def test_a_gaussian_in_any_pose_is_normalised():
    """By importance sampling of three points: its density integrates to 1 within 3 %."""
    noise = np.random.default_rng(0)
    model = np.array([[0.0, 0, 0], [1.5, 0, 0], [0.3, 1.2, 0]])
    sigma = 0.1
    basis = np.linalg.svd(np.ones((1, 3)))[2][1:]
    spread = 0.75
    total = []
    for _ in range(60_000):
        flat = noise.normal(scale=spread, size=(2, 3))
        log_q = -((flat / spread) ** 2).sum() / 2 - 6 * math.log(spread * math.sqrt(2 * math.pi))
        total.append(math.exp(space_metrics._log_gaussian(basis.T @ flat, model, sigma) - log_q))
    assert np.mean(total) == pytest.approx(1.0, abs=5 * np.std(total) / math.sqrt(len(total)))


# ------------------------------------------------------------------ properties


def property_of(molecule, seed):
    """Additive in the atoms, but for a term of the geometry, with a little noise."""
    oxygens = int((molecule.numbers == 8).sum())
    return len(molecule) + 0.5 * oxygens + 0.02 * np.random.default_rng(seed).normal()


@pytest.fixture(scope="module")
def regressor(some):
    y = np.array([property_of(one, seed) for seed, one in enumerate(some)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return conjoin.JointRegressor(family=TINY, random_state=0).fit(some, y), y


def test_a_number_of_a_molecule_is_predicted_with_its_intervals(regressor, some):
    model, y = regressor
    assert model.model_.card["predictor"]["why"] == "as asked"
    assert model.model_.state.predictor == "geometry"
    error = np.abs(model.predict(some) - y).mean()
    assert error < 0.1 * np.abs(y - np.median(y)).mean()
    low, _, high = model.predict_quantiles(some).T
    assert ((low <= y) & (y <= high)).mean() > 0.75


def test_the_joint_of_a_number_and_molecules_is_the_sum_of_its_factors(regressor, some):
    model, y = regressor
    joint = model.model_.pair
    x = model.model_.encode(some[:3]).event
    label = model.model_.target.encode(y[:3], np.ones(3, bool))
    apart = joint.log_evidence(x) + joint.predictor.log_prob(x, label.value[:, None])[:, 0]
    assert torch.allclose(joint.log_prob(Pair(label, x)), apart)
    prior = joint.base.prior
    grid = torch.linspace(-60, 60, 24001).double()
    mass = torch.trapezoid(prior.log_prob(Event(grid[:, None])).exp(), grid)
    assert abs(float(mass) - 1) < 1e-3


def test_a_molecule_without_places_has_the_distribution_of_all(regressor):
    model, _ = regressor
    x = model.model_.codec.space.check(model.model_.codec.evidence({"molecule": "CO"}))
    joint = model.model_.pair
    assert not joint.predictor.covers(x).any()
    y = Event(torch.tensor([0.3]).double())
    found = joint.log_prob(Pair(y, x)) - joint.log_evidence(x)
    assert torch.allclose(found, joint.base.prior.log_prob(Event(y.value[:, None])))


def test_no_order_or_mirror_changes_a_predicted_number(regressor, some):
    model, _ = regressor
    one = model.model_.rows(some[:3]).molecules[2]
    order = np.random.default_rng(0).permutation(len(one))
    other = dataclasses.replace(one.taken(order), xyz=-one.xyz[order] + 2.0)
    assert abs(model.predict([one])[0] - model.predict([other])[0]) < 1e-6


def test_molecules_of_a_wanted_number_are_drawn(regressor):
    model, _ = regressor
    found, y = model.sample(3, y=(5, 7), random_state=0)
    assert len(found) == 3
    assert ((y >= 5) & (y <= 7)).all()
    _, fixed = model.sample(2, y=6.0, random_state=0)
    assert fixed.tolist() == [6.0, 6.0]


def test_a_saved_model_predicts_the_same_number(regressor, some, tmp_path):
    model, _ = regressor
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert (again.predict(some[:4]) == model.predict(some[:4])).all()


def test_counts_find_what_is_additive():
    rows = torch.tensor(np.random.default_rng(0).integers(1, 4, size=(60, 5)))
    known = torch.tensor([1, 2, 3])
    table = geometry.counts_of(rows, known)
    assert table.tolist() == [[(row == key).sum() for key in (1, 2, 3)] for row in rows.numpy()]
    y = table @ torch.tensor([1.0, -2.0, 0.5]).double() + 3
    weight, bias = geometry._ridge(table, y, torch.full((60,), 1e6).double())
    assert torch.allclose(table @ weight + bias, y, atol=1e-4)
    assert geometry.counts_of(rows, known[:0]).shape == (60, 0)


def test_keys_tell_neighbours_apart_in_every_order(density):
    _, event, joint = density
    codes = joint.graphs_and_places(event)["graph"].value[:, 0].long()
    keys = environment_keys(codes)
    assert ((keys != 0) == (codes.diagonal(dim1=1, dim2=2) > 0)).all()
    order = torch.randperm(codes.shape[1], generator=torch.Generator().manual_seed(0))
    assert torch.equal(environment_keys(codes[:, order][:, :, order]), keys[:, order])
    names = [NAMES[row % len(NAMES)] for row in range(24)]
    methane, methanol, ethane = (set(keys[names.index(n)].tolist()) for n in ("C", "CO", "CC"))
    assert methane & methanol == {0, *(methane & ethane)}  # hydrogens of a carbon
    assert len(methanol - {0}) == 4


def test_geometry_is_for_molecules_in_space():
    x = np.random.default_rng(0).normal(size=(120, 2))
    with pytest.raises(ValueError, match="predictor='geometry' reads molecules in space"):
        conjoin.JointRegressor(family="naive_bayes", predictor="geometry").fit(x, x[:, 0])


def test_several_properties_of_molecules_need_a_family_that_reads_them(some):
    y = pd.DataFrame({"gap": np.arange(160.0), "mu": np.arange(160.0)})
    with pytest.raises(ValueError, match="and naive_bayes does not: choose one of"):
        conjoin.JointRegressor(family="naive_bayes").fit(some, y)
