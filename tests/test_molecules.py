"""Molecules: how strings are read and cut into tokens, what is predicted of them, and designed."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.chemistry.tokens import UNKNOWN, Vocabulary, pieces
from conjoin.cli import run
from conjoin.cli.design import _wishes
from conjoin.codecs.kinds import codec_for, codec_from_json
from conjoin.codecs.sequence import Prefix, StringRows
from conjoin.codecs.smiles.appraisal import (
    accessibility,
    containing,
    nearest,
    plain_properties,
    sheet,
)
from conjoin.codecs.smiles.chemistry import has_rdkit, looks_like_smiles, read_smiles
from conjoin.codecs.smiles.surprise import atom_nats, coloured, nats_of_atoms, oddest_part
from conjoin.core import Event, Pair, Space, Variable, as_float
from conjoin.families.multimodal import Multimodal
from conjoin.fitting.split import Rows, conflicts_words
from conjoin.model.predictive import predictive
from conjoin.predictors import method
from conjoin.predictors.base import Case
from conjoin.predictors.forest import TREES, TREES_A_FOLD, Forest
from conjoin.predictors.fragments import _members
from conjoin.questions.design import (
    MIN_PROPOSALS,
    PROPOSALS_PER_ROW,
    _chosen,
    _shares,
    _shortfalls,
    design,
)
from conjoin.questions.proposals import beginning_with
from conjoin.questions.token_surprise import surprise_in
from conjoin.questions.wishes import refuse_far_wishes, wishes_of

needs_rdkit = pytest.mark.skipif(not has_rdkit(), reason="needs rdkit: pip install conjoin[mol]")
ALCOHOLS = ["C" * n + "O" for n in range(1, 21)]
ACIDS = ["C" * n + "(=O)O" for n in range(1, 21)]
RINGS = ["C" * n + "c1ccccc1" for n in range(1, 21)]
HARD = ["[Si](C)(C)C", "[2H]C", "C%10CCCCC%10", "CC(Cl)Br", "C[C@@H](N)C(=O)[O-]", "CC.[Na+]"]
TINY = Multimodal(strings={"width": 8, "blocks": 1, "steps": 5})


# ------------------------------------------------------------------------------------------ tokens


def test_pieces_are_atoms_bonds_and_rings():
    assert pieces("C[C@@H](Cl)%10Br") == ["C", "[C@@H]", "(", "Cl", ")", "%10", "Br"]
    assert pieces("[nH]1c%(123)[2H]") == ["[nH]", "1", "c", "%(123)", "[2H]"]
    assert "".join(pieces("§ \n[x")) == "§ \n[x"


def test_merges_never_cut_a_piece():
    strings = ["CCCl", "ClCC", "BrC[nH]C", "CCCCCl"] * 10
    words = Vocabulary.learn(strings, 40)
    assert words.merges
    for text in words.texts[:-1]:
        assert "".join(pieces(text)) == text
        assert not text.endswith(("[", "[n"))
    for text, codes in zip(strings, words.encode(strings), strict=True):
        assert [p for code in codes for p in pieces(words.texts[code])] == pieces(text)


def test_a_merge_is_made_everywhere_at_once_and_runs_pair_from_the_left():
    words = Vocabulary(("C", "O"), ((0, 0),))
    codes = words.encode(["CCC", "CCCCO", "OC", "", "CCOCC"])
    assert [each.tolist() for each in codes] == [[2, 0], [2, 2, 1], [1, 0], [], [2, 1, 2]]


def test_the_most_frequent_pair_is_merged_first():
    for often, rare in (("CO", "NO"), ("NO", "CO")):
        words = Vocabulary.learn([often, rare] * 10 + [often], 4)
        assert words.texts == ("C", "N", "O", often, UNKNOWN)


def test_a_piece_that_was_never_seen_is_one_token():
    words = Vocabulary.learn(["CCO"] * 12, 3)
    assert words.encode(["C[Si]O"])[0].tolist() == [0, words.unknown, 1]
    assert words.text(words.encode(["C[Si]O"])[0]) == f"C{UNKNOWN}O"


def test_words_are_no_molecules():
    assert not looks_like_smiles(["NO", "CO", "CN"] * 40)
    assert not looks_like_smiles(["cat", "dog (brown)"] * 40)
    assert not looks_like_smiles([])


# --------------------------------------------------------------------------------------- chemistry


@needs_rdkit
def test_strings_are_read_by_rdkit():
    assert read_smiles("OCC").canonical == "CCO"
    assert "unclosed ring" in read_smiles("C1CC").why
    assert "valence" in read_smiles("CC(C)(C)(C)C").why
    assert read_smiles(" ").why == "it is empty"
    assert "100,000 characters" in read_smiles("C" * 100_000).why
    assert looks_like_smiles(RINGS)


@needs_rdkit
def test_what_is_asked_of_new_molecules():
    assert containing(["Cc1ccccc1", "CCO"], "c1ccccc1").tolist() == [True, False]
    assert containing(["Cc1ccccc1", "CCO"], "[OX2H]").tolist() == [False, True]
    with pytest.raises(ValueError, match="is no part of a molecule"):
        containing(["CCO"], "C1CC(")
    place, similarity = nearest(["CCO", "CCCl"], ["CCCl", "CCO"])
    assert place.tolist() == [1, 0]
    assert similarity.tolist() == [1.0, 1.0]
    scores = accessibility(["CCO"])
    assert np.isnan(scores).all() or 1 <= scores[0] < 3
    found = plain_properties(["CCO", "c1ccccc1"])
    assert found["mass, daltons"] == pytest.approx([46.0419, 78.0470], abs=1e-3)
    assert found["rings"].tolist() == [0, 1]
    assert "<svg" in sheet(["CCO"])


@needs_rdkit
@pytest.mark.parametrize("form", ["canonical", "randomised", "atoms", "tokens=40"])
def test_molecules_come_back_as_they_are(form):
    types = {"smiles": {"type": "smiles", "format": form}}
    codec, rows = codec_for(pd.Series(HARD + ACIDS, name="smiles"), types=types)
    assert codec.kind == "smiles"
    codec.fit(rows)
    encoded = codec.encode(rows)
    back = codec.decode(encoded.event.value)["smiles"]
    assert [read_smiles(text).canonical for text in back] == list(rows.frame["smiles"])
    assert not encoded.unseen.any()
    again = codec_from_json(json.loads(json.dumps(codec.to_json())))
    assert torch.equal(again.encode(rows).event.value, encoded.event.value)
    assert again.several_ways == (form != "atoms" and bool(codec.column.vocabulary.merges))


@needs_rdkit
def test_what_a_chemist_should_know_is_told():
    codec, rows = codec_for([*HARD, *RINGS, "OCC", "CCO"], types={"smiles": "smiles"})
    codec.fit(rows)
    told = " ".join(codec.notices)
    assert "1 of 28 molecules have several parts" in told
    assert "1 of 28 molecules have isotopes" in told
    assert "1 of 28 molecules are copies" in told


@needs_rdkit
def test_a_broken_string_is_named_with_what_rdkit_says():
    broken = pd.Series([*RINGS, "C1CC", None], name="drug")
    with pytest.raises(ValueError, match=r"'drug'.*row 20, 'C1CC' \(rdkit says: unclosed ring"):
        codec_for(broken, types={"drug": "smiles"})
    skipping = {"drug": {"type": "smiles", "format": "skip broken"}}
    codec, rows = codec_for(broken, types=skipping)
    assert rows.frame["drug"].isna().sum() == 2
    codec.fit(rows)
    assert any("unclosed ring" in words for words in codec.notices)
    with pytest.warns(UserWarning, match="nothing is known of the molecule"):
        assert not codec.encode(["C1CC"]).event.mask.any()
    with pytest.raises(ValueError, match="'atom' is no format"):
        codec_for(broken, types={"drug": {"type": "smiles", "format": "atom"}})


@needs_rdkit
def test_a_new_atom_is_unseen_and_ends_nothing():
    codec, rows = codec_for(RINGS + ALCOHOLS)
    codec.fit(rows)
    encoded = codec.encode(["CC[Si]CC"])
    assert encoded.unseen.sum() == 1
    assert float(encoded.log_unseen) == pytest.approx(np.log(1e-6))
    assert bool(encoded.event.mask.all())


@needs_rdkit
def test_a_table_of_molecules_needs_their_column():
    codec, rows = codec_for(pd.Series(RINGS, name="drug"))
    codec.fit(rows)
    more = pd.DataFrame({"id": range(20), "drug": RINGS})
    assert codec.extra_columns(codec.rows(more)) == ["id"]
    with pytest.raises(ValueError, match="with the column 'drug', as at the fit"):
        codec.rows(pd.DataFrame({"other": RINGS}))


@needs_rdkit
def test_a_beginning_is_continued():
    codec, rows = codec_for(ALCOHOLS, types={"smiles": {"type": "smiles", "format": "atoms"}})
    codec.fit(rows)
    event = codec.evidence({"smiles": Prefix("CCC")})
    assert event.mask.sum() == 3


@needs_rdkit
def test_a_column_of_molecules_in_a_table_is_recognised():
    table = pd.DataFrame({"drug": RINGS + ACIDS, "dose": np.arange(40.0)})
    codec, rows = codec_for(table)
    assert codec.kind == "record"
    codec.fit(rows)
    (found,) = codec.structures
    assert found.name == "drug"
    value = codec.encode(rows).event.value
    assert found.strings(value) == list(rows.frame["drug"])
    solvents = pd.DataFrame({"drug": ["CC(=O)C", "CS(=O)C"] * 20, "dose": np.arange(40.0)})
    assert codec_for(solvents)[0].kind == "table"


# ------------------------------------------------------------------------------------------ answers


def _case(strings, y, classes=None):
    codec, rows = codec_for(strings)
    codec.fit(rows)
    x = codec.encode(rows).event
    weight = torch.ones(len(y), dtype=torch.float64)
    pair = Pair(Event(torch.as_tensor(y, dtype=torch.float64)), x)
    return Case(codec.space, pair, weight, classes, 0, structures=codec.structures)


@needs_rdkit
@pytest.mark.slow
def test_fragments_predict_what_is_their_sum():
    strings = [f"{'C' * n}{'(=O)O' if k else 'O'}" for n in range(1, 31) for k in (0, 1)]
    y = [0.1 * n + k for n in range(1, 31) for k in (0, 1)]
    case = _case(strings, y)
    scorer = method("fragments").fit(case)
    with torch.no_grad():
        errors = scorer.scores(case.rows.x)[:, 0] - case.rows.y.value
    assert float(errors.square().mean().sqrt()) < 0.1
    assert bool(scorer.covers(case.rows.x).all())
    trees = [each for each in scorer.pool.modules() if isinstance(each, Forest)]
    assert [len(each.root) for each in trees] == [TREES] * len(trees)
    broken = Event(torch.zeros_like(case.rows.x.value), case.rows.x.mask)
    broken.value[:, 0] = case.structures[0].vocabulary.encode(["("])[0][0]
    assert not bool(scorer.covers(broken).any())


def test_a_measurement_of_fragments_takes_a_part_of_the_rows(monkeypatch):
    """A fit learns the folds too: of all rows it would cost as much as what it foresees."""
    seen = []
    fragments = method("fragments")
    monkeypatch.setattr(type(fragments), "fit", lambda self, case: seen.append(case.rows.rows))
    space = Space((1,), (Variable("a", "real"),))
    for rows in (100, 450, 1500):
        column = Event(torch.zeros(rows, 1, dtype=torch.float64))
        y = Event(torch.zeros(rows, dtype=torch.float64))
        case = Case(space, Pair(y, column), torch.ones(rows), None, 0)
        fragments.guess(case, case)
    assert seen == [100, 200, 500]


@needs_rdkit
def test_fragments_are_for_molecules():
    case = _case(RINGS, np.arange(20.0))
    assert _members(case)["extra_trees"].trees_a_fold == TREES_A_FOLD
    assert method("fragments").tried(case)
    with pytest.raises(ValueError, match="no column holds SMILES"):
        method("fragments").fit(_without_molecules(case))


def _without_molecules(case):
    from dataclasses import replace

    return replace(case, structures=())


@needs_rdkit
@pytest.mark.slow
def test_a_density_of_molecules_alone_sums_what_is_known():
    model = JointDensity(family=TINY).fit(RINGS + ACIDS + ALCOHOLS)
    assert np.isfinite(model.score_samples(RINGS[:3])).all()
    drawn, _ = model.sample(3, random_state=0)
    assert list(drawn.columns) == ["smiles"]
    density = model.model_.joint
    unknown = model.model_.codec.space.unknown(2)
    assert density.log_prob(unknown).tolist() == [0.0, 0.0]
    assert model.model_.status["log_prob"].value == "exact"  # few molecules are cut into atoms
    cut = JointDensity(family=TINY, types={"smiles": {"type": "smiles", "format": "tokens=64"}})
    several = cut.fit(pd.Series(RINGS + ACIDS + ALCOHOLS, name="smiles"))
    assert several.model_.status["log_prob"].value == "lower bound"
    encoded = model.model_.encode(["CC[Si]CC", "CCCO"])
    ranks = model.model_.familiarity.ranks(encoded.event, encoded.log_unseen)
    assert ranks[:, 0].tolist() == pytest.approx([1e-6, 1.0])
    assert "never saw" in model.model_.codec.unlike([True], 0)


def _made(shares):
    """Proposals whose p(wish) is known; the last is no molecule."""
    names = [*(f"C{'C' * n}O" for n in range(len(shares))), None]
    score = np.log([*shares, 0.0 + 1e-300])
    score[-1] = -np.inf
    own = {"_canonical": names, "_score": score, "_way": "drawn", "_tokens": 5, "_chains": 0}
    return pd.DataFrame({"smiles": "", **own})


def test_the_best_by_the_wish_come_first():
    chosen, kept = _chosen(_made([0.1, 0.6, 0.3]), 2, None, "best", 0)
    assert list(chosen["_canonical"]) == ["CCO", "CCCO"]
    assert kept == 1.0
    told = _shares(_made([0.1, 0.6, 0.3]))
    assert told["valid"] == {"drawn": 0.75}
    assert told["acceptance"]["drawn"] == pytest.approx(0.25)
    assert told["tokens"] == {"drawn": 20}
    assert told["wanted_per_1000_tokens"]["drawn"] == pytest.approx(50)
    twice = _shares(pd.concat([_made([0.1, 0.6, 0.3])] * 2))
    assert twice["acceptance"]["drawn"] == pytest.approx(0.25)
    assert twice["wanted_per_1000_tokens"]["drawn"] == pytest.approx(25)  # each molecule once


def test_what_is_resampled_comes_by_the_weight_of_the_wish():
    made = _made([0.1, 0.6, 0.3])
    first = [_chosen(made, 1, None, "draw", seed)[0]["_canonical"].iloc[0] for seed in range(100)]
    shares = [first.count(name) / 100 for name in ("CO", "CCO", "CCCO")]
    assert shares == pytest.approx([0.1, 0.6, 0.3], abs=0.12)


def test_where_chains_ended_is_what_is_drawn():
    made = _made([0.1, 0.6, 0.3, 0.2]).assign(_chains=[3, 0, 1, 0, 2], _way="redrawn")
    first = [_chosen(made, 1, None, "draw", seed)[0]["_canonical"].iloc[0] for seed in range(100)]
    assert set(first) == {"CO", "CCCO"}
    assert first.count("CO") == pytest.approx(75, abs=12)
    assert len(_chosen(made, 5, None, "draw", 0)[0]) == 2  # the last is no molecule
    assert list(_chosen(made, 1, None, "best", 0)[0]["_canonical"]) == ["CCO"]


def test_a_molecule_that_came_several_times_weighs_as_much_as_all_of_them():
    rows = [0, 1, 2, 0, 0]
    ended = _made([0.1, 0.6, 0.3]).iloc[rows].assign(_way="redrawn", _chains=[1, 5, 1, 2, 1])
    plain = _made([0.1, 0.4, 0.2]).iloc[rows]
    for made, shares in ((ended, [0.4, 0.5, 0.1]), (plain, [0.3 / 0.9, 0.4 / 0.9, 0.2 / 0.9])):
        made = made.reset_index(drop=True)
        drawn = (_chosen(made, 1, None, "draw", seed)[0] for seed in range(200))
        first = [each["_canonical"].iloc[0] for each in drawn]
        found = [first.count(name) / 200 for name in ("CO", "CCO", "CCCO")]
        assert found == pytest.approx(shares, abs=0.1)


def test_where_chains_ended_at_too_few_plain_draws_follow():
    ended = _made([0.1, 0.6]).assign(_way="redrawn", _chains=[0, 3, 1])
    made = pd.concat([ended, _made([0.1, 0.6, 0.9])], ignore_index=True)
    for seed in range(5):
        chosen, _ = _chosen(made, 3, None, "draw", seed)
        assert chosen["_canonical"].iloc[0] == "CCO"
        assert set(chosen["_canonical"]) == {"CO", "CCO", "CCCO"}
        assert list(chosen["_way"]) == ["redrawn", "drawn", "drawn"]
    (words,) = _shortfalls(made, chosen, 3, None, "draw")
    assert words.startswith("1 of the 3 molecules are where 4 chains ended, the other 2 are plain")
    assert _shortfalls(made, chosen.head(1), 1, None, "draw") == []
    nowhere = made.assign(_chains=[0, 0, 4, 0, 0, 0, 0])
    chosen, _ = _chosen(nowhere, 9, None, "draw", 0)
    assert len(chosen) == 3
    first, second = _shortfalls(nowhere, chosen, 9, None, "draw")
    assert first.startswith("0 of the 3 molecules are where 4 chains ended")
    assert second.startswith("3 of the 9 molecules asked for were found among 7 proposals, which")
    assert "hold 3 different molecules" in second


def test_there_is_a_chain_for_each_draw():
    for n in (1, 5, 12, 13, 50, 999):
        count = max(MIN_PROPOSALS, PROPOSALS_PER_ROW["draw"] * n)
        begun, chains = beginning_with(-(-count // 2))
        assert begun >= chains >= n


@pytest.fixture(scope="module")
def number():
    """y of a straight line, evenly from 0 to 100, without molecules."""
    x = np.linspace(0.0, 1.0, 300)
    return JointRegressor(family="gaussian").fit(pd.DataFrame({"x": x}), 100 * x).model_


def test_how_much_of_the_data_is_near_a_wish(number):
    (half,) = wishes_of(number, {"y": (None, 50)})
    assert half.share == pytest.approx(0.5, abs=0.02)
    (again,) = wishes_of(number, {"y": np.array([-np.inf, 50])})
    assert (again.low, again.high) == (half.low, half.high)
    words = r"near y=\(1000.0, None\): p\(y\) puts 0.00% .* 90% of p\(y\) lies from "
    with pytest.raises(ValueError, match=words):
        refuse_far_wishes(wishes_of(number, {"y": (np.float64(1000), None)}))


@pytest.mark.parametrize(
    "wish", [np.nan, (np.nan, 3), (3, np.nan), None, {}, pd.NA, (3, [4, 5]), True, (False, 3)]
)
def test_a_wish_that_is_no_number(number, wish):
    with pytest.raises(ValueError, match=r"^y=.* is no number; give a number, or a range"):
        wishes_of(number, {"y": wish})


def test_a_wish_of_classes_is_one_class():
    x = pd.DataFrame({"x": np.arange(40.0)})
    model = JointClassifier(family="gaussian").fit(x, np.repeat([1, 2], 20)).model_
    (wish,) = wishes_of(model, {"y": np.int64(2)})
    assert (wish.low, wish.share) == (1.0, pytest.approx(0.5, abs=0.05))
    with pytest.raises(ValueError, match=r"y=\[1, 2\]: one class is wanted; choose from 1, 2\."):
        wishes_of(model, {"y": np.array([1, 2])})


@pytest.mark.parametrize("count", [0, -3, 20.5, True, "9"])
def test_numbers_that_no_design_can_have(number, count):
    with pytest.raises(ValueError, match=r"number of proposals must be a whole number from 1, got"):
        design(number, 2, {"y": 3}, proposals=count)
    with pytest.raises(ValueError, match=r"number of molecules must be a whole number from 1, got"):
        design(number, count, {"y": 3})
    with pytest.raises(ValueError, match=r"keep=5 is no part of a molecule"):
        design(number, 2, {"y": 3}, keep=5)


def test_two_wishes_of_one_property_are_refused():
    assert _wishes(["a=1", "b=2..", "c = x"]) == {"a": 1.0, "b": (2.0, None), "c": "x"}
    with pytest.raises(ValueError, match=r"--want a=2: 'a' has a wish already"):
        _wishes(["a=1", "a=2"])


def test_equal_molecules_with_different_values_are_told():
    x = StringRows(("CO", "CO", "CCO", "CCO", "C"), pd.RangeIndex(5))
    y = np.array([1.0, 1.0, 2.0, 3.0, 4.0])
    known = np.ones(5, dtype=bool)
    (words,) = conflicts_words(Rows(x, y, known, name="logS"))
    assert words.startswith("1 row stands in the data several times with different values")
    assert conflicts_words(Rows(x, y, known & (y < 3))) == []


# -------------------------------------------------------------------------------- surprise of atoms


def test_the_nats_of_tokens_are_shared_out_among_their_atoms():
    tokens = ["CC", "(", "=O)", "[N+]", "c1", "Cl"]
    found = atom_nats(tokens, [2.0, 1.0, 3.0, 0.5, 4.0, 1.5])
    assert found == [1.0, 2.0, 3.0, 0.5, 4.0, 1.5]
    assert sum(found) == 12.0


@needs_rdkit
def test_the_most_surprising_part_hangs_together():
    nats = np.array([0.1, 5.0, 9.0, 0.2, 9.0])
    assert oddest_part("CC(=O)CF", nats) == "C=O"
    words = Vocabulary.learn(["CCO"] * 20, size=4)
    (codes,) = words.encode(["CC[Si](C)C"])
    length = len(codes)
    assert nats_of_atoms("CC[Si](C)C", codes.tolist(), [1.0] * length, words).sum() == length
    assert nats_of_atoms("CCC", codes.tolist(), [1.0] * length, words) is None
    svg = coloured(["CCO"], [np.array([0.0, 4.0, 8.0])], ["row 1: O"])
    assert svg.count("ellipse") >= 3


@pytest.fixture(scope="module")
def odd():
    """A model of 60 molecules, its alarm set by the same; and strange ones."""
    size = np.tile(np.arange(1.0, 21.0), 3)
    smiles = pd.Series(ALCOHOLS + ACIDS + RINGS, name="smiles")
    small = Multimodal(strings={"width": 16, "blocks": 1, "steps": 60})
    model = JointRegressor(family=small, predictor=None, random_state=0).fit(smiles, size)
    return model.calibrate(smiles, size), ["CCCCCCCCO", "CC[Si](C)C", "c1ccccc1C(=O)O"]


@needs_rdkit
@pytest.mark.slow
def test_surprises_of_tokens_add_up_to_that_of_the_molecule(odd):
    model = odd[0].model_
    x = model.encode(odd[1][:1]).event
    cells = model.codec.structures[0].cells
    nats = surprise_in(model, x, cells)
    strings, event, told = model.pair.family_density.string_in(as_float(x), cells)
    with torch.no_grad():
        whole = -float(strings.log_prob(event, told))
    assert float(nats.nansum()) == pytest.approx(whole, abs=1e-4)


@needs_rdkit
@pytest.mark.slow
def test_reasons_and_report_point_at_parts_of_molecules(odd, tmp_path):
    model, strange = odd
    found = model.decide(strange, false_alarm=0.1, max_error=0.3)
    assert found["verdict"].tolist() == ["accept", "unfamiliar", "unfamiliar"]
    assert "[Si] was never seen" in found["reason"].iloc[1]
    assert "its most surprising part is" in found["reason"].iloc[2]
    model.report(tmp_path / "plain.html", strange, [5.0, 3.0, 2.0])
    assert "No real molecule stands in this report" in (tmp_path / "plain.html").read_text()
    model.report(tmp_path / "rows.html", strange, [5.0, 3.0, 2.0], show_rows=True)
    assert "The redder an atom" in (tmp_path / "rows.html").read_text()


# ---------------------------------------------------------------------------------------- the shell


@needs_rdkit
@pytest.mark.slow
def test_bad_molecules_from_the_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "multimodal:strings.width=8,strings.blocks=1,strings.steps=5,strings.reading=0.3"
    smiles = [*ALCOHOLS, *ACIDS, *RINGS, *HARD, "CCO", "OCC", "", "C1CC"]
    size = [f"{n % 20 + 1}" if n % 20 < 15 else ">15" for n in range(60)]
    frame = pd.DataFrame({"smiles": smiles, "size": [*size, *"1234562934"]})
    frame.to_csv("all.csv", index=False)
    asked = ["fit", "all.csv", "--target", "size", "--family", small, "-o", "m"]
    assert run(asked) == 2
    words = capsys.readouterr().err
    assert "row 70, 'C1CC' (rdkit says: unclosed ring" in words and "--skip-broken" in words
    assert run([*asked, "--skip-broken"]) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    for sentence in (
        "1 of 70 rows are left out",
        "of which 15 rows tell a bound, such as '>15'",
        "1 row stands in the data several times with different values of 'size'",
        "have several parts, such as salts, which are kept",
        "have isotopes, which are kept",
    ):
        assert sentence in said
    model = conjoin.load("m")
    assert model.model_.joint.config.strings["reading"] == 0.3
    assert np.allclose(model.predict(["C" * 18 + "O"]), 18, atol=2)
    new = ["CCO", "C" * 100_000, "caf\xe9", "", "[Si](C)(C)C", "[2H]C"]
    pd.DataFrame({"smiles": new}).to_csv("new.csv", index=False, encoding="latin-1")
    assert run(["predict", "m", "new.csv", "-o", "out.csv"]) == 0
    told = capsys.readouterr().err
    assert "encoded as cp1252" in told and "2 strings are no molecule" in told
    assert len(pd.read_csv("out.csv")) == len(new)
    (tmp_path / "nul.csv").write_bytes(b"smiles\nCC\x00O\n")
    assert run(["predict", "m", "nul.csv"]) == 2
    assert "line 2 has a byte of 0" in capsys.readouterr().err
    assert run(["design", "m", "--want", "size=1e6", "-n", "2"]) == 2
    assert "Hardly any molecule" in capsys.readouterr().err
    again = ["fit", "all.csv", "--target", "size", "--start-from", "m", "--predictor", "reader"]
    steps = ["--family", "multimodal:strings.steps=2", "--skip-broken", "-o", "n", "-q"]
    assert run([*again, *steps]) == 0
    assert conjoin.load("n").model_.joint.config.strings["steps"] == 2
    assert conjoin.load("n").model_.state.predictor == "reader"


@pytest.fixture(scope="module")
def several():
    size = np.arange(1.0, 21.0)
    frame = pd.DataFrame({"smiles": ALCOHOLS + ACIDS + RINGS, "size": np.tile(size, 3)})
    frame["acid"] = np.repeat([0.0, 1.0, 0.3], 20) + 0.01 * frame["size"]
    frame.loc[::7, "acid"] = np.nan
    model = JointRegressor(family=TINY).fit(frame["smiles"], frame[["size", "acid"]])
    return model, frame


@needs_rdkit
@pytest.mark.slow
def test_several_properties_and_a_design(several, tmp_path):
    model, frame = several
    guess = model.predict(frame["smiles"])
    assert np.corrcoef(guess["size"], frame["size"])[0, 1] > 0.9
    model.save(tmp_path / "model")
    again = conjoin.load(tmp_path / "model")
    assert np.array_equal(again.predict(frame["smiles"]), guess)
    with pytest.warns(UserWarning, match="molecules asked for"):
        found = again.design(
            60, size=(3, None), acid=(0.0, 0.9), proposals=60, reference=frame["smiles"]
        )
    assert (found["p_wish"].diff().dropna() <= 0).all()
    assert found["smiles"].is_unique
    assert 0 <= found.attrs["acceptance"]["drawn"] <= 1
    assert set(found["novel"]) <= {True, False}
    evaluated = model.evaluate(frame["smiles"], frame[["size", "acid"]])
    assert np.isfinite(evaluated["all"]["log_loss"])
    with pytest.raises(ValueError, match="Hardly any molecule"):
        model.design(2, size=1e6)
    words = r"1 of the 2 known molecules \(reference\) cannot be read, the first in row 1: 'no'"
    with pytest.warns(UserWarning, match=words):
        model.design(2, size=(3, None), reference=["CCO", "no"])
    with pytest.raises(ValueError, match="Give them as SMILES"):
        model.design(2, size=(3, None), reference="no")
    with pytest.raises(ValueError, match="reference holds no molecule"):
        model.design(2, size=(3, None), reference=[])
    with pytest.raises(ValueError, match="no property 'logP'; choose from size, acid"):
        model.design(2, logP=1)
    with pytest.raises(ValueError, match="Nothing is wanted"):
        model.design(2)


@pytest.mark.parametrize("family", ["ngram", Multimodal(strings={"family": "ngram"})])
def test_counts_beside_a_number_are_refused_before_anything_is_read(family):
    class Unread(list):
        def __iter__(self):
            raise AssertionError("read")

    frame = pd.DataFrame({"size": np.arange(20.0), "acid": 0.0})
    for y, words in ((frame["size"], "a number"), (frame, "several columns")):
        with pytest.raises(ValueError, match=f"^family='.*': counts of .*, and y is {words}: take"):
            JointRegressor(family=family).fit(Unread(ALCOHOLS), y)
    assert not Multimodal(strings={"reading": 0.3}).takes_class_alone
    table = pd.DataFrame({"smiles": ALCOHOLS, "kind": "a"})
    if family == "ngram":
        with pytest.raises(ValueError, match=r"^family='ngram': .*, and x has 2 columns beside"):
            JointClassifier(family=family).fit(table, ["a", "b"] * (len(ALCOHOLS) // 2))


@pytest.mark.parametrize(
    ("kind", "columns", "words"),
    [
        (JointClassifier, ["text", "sort"], "beside 'text' stand 'sort' and a target: take"),
        (JointClassifier, ["text", "more"], "beside 'more' stand 'text' and a target: take"),
        (JointDensity, ["text", "size"], "beside 'text' stands 'size': take"),
        (JointDensity, ["text", "sort", "label"], "beside 'text' stand 'sort', 'label': take"),
    ],
)
def test_counts_beside_columns_are_refused_before_rows_are_encoded(kind, columns, words):
    noise = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "text": ["".join(noise.choice(list("abc"), 9)) for _ in range(60)],
            "size": noise.normal(size=60),
            "sort": noise.choice(["x", "y"], 60),
            "label": noise.choice(["p", "q"], 60),
        }
    )
    table["more"] = table["text"]
    types = {name: "text" for name in columns if name in ("text", "more")}
    model = kind(family=Multimodal(strings={"family": "ngram"}), types=types)
    more = () if kind is JointDensity else (table["label"],)
    with pytest.raises(ValueError, match=f"^family='multimodal': counts of .*, and {words}"):
        model.fit(table[columns], *more)


def test_counts_beside_one_class_are_fitted():
    noise = np.random.default_rng(0)
    text = ["".join(noise.choice(list("abc"), 9)) for _ in range(60)]
    table = pd.DataFrame({"text": text, "sort": noise.choice(["x", "y"], 60)})
    model = JointDensity(family="ngram", types={"text": "text"}).fit(table)
    assert np.isfinite(model.score_samples(table)).all()


@needs_rdkit
@pytest.mark.slow
def test_a_number_is_predicted_without_log_p_of_x(several):
    """log p(x) cancels in p(y | x), and the other targets need not be summed out for it."""
    model, frame = several
    x = model.model_.codec.encode(model.model_.codec.rows(frame["smiles"])).event
    for name, view in model.model_.views().items():
        assert view.state.direct, name
        assert view.pair.family_density.slow_candidates
        grid = torch.tensor(view.state.grid, dtype=torch.float64)
        with torch.no_grad():
            long, short = (predictive(view.pair, x, grid, direct) for direct in (False, True))
        assert torch.allclose(long.cdf, short.cdf, atol=1e-9, rtol=0)
