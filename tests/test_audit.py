"""audit: what a model remembers is told apart from what it learned, and groups that are served
worse are named."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.cli import run
from conjoin.cli.audit import _parts
from conjoin.cli.voice import Voice
from conjoin.model.card import with_audit
from conjoin.model.contents import contents
from conjoin.questions.audit.extraction import extraction, string_columns
from conjoin.questions.audit.groups import Group, _judged, _rate, groups_of
from conjoin.questions.audit.membership import _ratios, chance_of, membership
from conjoin.questions.audit.planted import planted
from conjoin.questions.audit.run import _of_groups, audit
from conjoin.questions.synthetic.canaries import strange_rows

RATE = 0.05


def rows(count, seed):
    """Two numbers that go together, a level, and a class that is guessed worse in one town."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=count)
    town = rng.choice(["north", "south"], count, p=[0.7, 0.3])
    label = np.where(a + 0.3 * rng.normal(size=count) > 0, "yes", "no")
    odd = (town == "south") & (rng.random(count) < 0.35)
    label[odd] = rng.choice(["yes", "no"], odd.sum())
    X = pd.DataFrame({"a": a, "b": a + 0.2 * rng.normal(size=count), "town": town})
    return X.round(3), pd.Series(label, name="label")


@pytest.fixture(scope="module")
def table():
    return *rows(500, 0), *rows(400, 1)


@pytest.fixture(scope="module")
def plain(table):
    X, y, *_ = table
    return JointClassifier(family="naive_bayes", predictor=None).fit(X, y)


# ------------------------------------------------------------------------------------- planted


class Knows:
    """An estimator that knows the rows it was given, and has log p of numbers otherwise."""

    class model_:
        class codec:
            columnwise = 2
            columns = ("a", "b")
            space = SimpleNamespace(variables=())
            rows = staticmethod(lambda frame: frame)
            missing_columns = staticmethod(lambda rows: ())

    def __init__(self, known):
        self.known = set(map(tuple, known.to_numpy().tolist()))

    def score_samples(self, X):
        rows = X.to_numpy().tolist()
        return np.array([5.0 * (tuple(row) in self.known) - abs(row[0]) for row in rows])


def test_planted_rows_are_told_apart_from_their_like(table):
    X = table[0][["a", "b"]]
    canaries = strange_rows(X, None, 40, np.random.default_rng(2))[0]
    noise = np.random.default_rng(3)
    found = planted(Knows(pd.concat([X, canaries])), canaries, X, noise)
    assert found.p_value < 0.01
    assert found.remembered is None  # nothing says that they were made like the rows beside them
    assert found.bits > 6
    assert found.gap == pytest.approx(5, abs=1)
    none = planted(Knows(X), canaries, X, noise)
    assert none.p_value > 0.01
    assert none.bits == pytest.approx(1.44, abs=1)
    told = canaries.assign(planted=["yes"] * 20 + ["no"] * 20)
    half = planted(Knows(pd.concat([X, canaries.head(20)])), told, X, noise)
    assert half.remembered is True
    assert (half.canaries, half.references, half.own_references) == (20, 20, True)


def test_likely_rows_without_references_of_their_own_are_not_said_to_be_remembered(plain, table):
    """Rows of the same source, which the model never saw: more likely than shuffled ones."""
    X, y, X_held, _ = table
    likely = X_held.head(100)
    found = audit(plain, X, y, canaries=likely, shadows=0)
    assert found.planted.p_value < 1e-4
    words = found.words()[0]
    assert "remembers" not in words
    assert "holds only if the planted rows were made in the same way" in words
    assert found.to_json()["planted"]["remembered"] is None
    told = likely.assign(planted=["yes"] * 50 + ["no"] * 50)
    words = audit(plain, X, y, canaries=told, shadows=0).words()[0]
    assert "does not know them from their like" in words


def test_without_planting_the_p_value_is_uniform(table):
    from scipy.stats import kstest

    X = table[0][["a", "b"]]
    noise = np.random.default_rng(4)
    found = [
        planted(Knows(X.head(0)), strange_rows(X, None, 20, noise)[0], X, noise).p_value
        for _ in range(200)
    ]
    assert kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("how", ["no column", "no cell"])
def test_canaries_that_lack_cells_are_compared_without_them(plain, table, how):
    """log p of fewer cells is greater, which is no memory. Both halves were never seen."""
    X, y, *_ = table
    made = strange_rows(X, None, 80, np.random.default_rng(5))[0]
    told = made.assign(planted=["yes"] * 40 + ["no"] * 40)
    if how == "no column":
        told = told.head(40).drop(columns=["b", "planted"])
    else:
        told.loc[:39, "b"] = np.nan
    found = audit(plain, X, y, canaries=told, shadows=0)
    assert found.planted.unasked == ("b",)
    assert found.planted.p_value > 0.01
    assert found.planted.bits == pytest.approx(1.44, abs=0.7)
    assert "(asked without the column b, which some canaries lack)" in found.words()[0]
    assert found.to_json()["planted"]["unasked"] == ("b",)


def test_canaries_of_which_nothing_is_known_are_refused(plain, table):
    X, y, *_ = table
    with pytest.raises(ValueError, match="each of a, b, town is missing in some"):
        audit(plain, X, y, canaries=pd.DataFrame({"other": ["x"] * 9}), shadows=0)


def test_canaries_without_a_string_are_refused():
    texts = ["".join(word) for word in itertools.product("ab", repeat=5)] * 4
    model = JointDensity(family="ngram", types={"text": "text"}).fit(texts)
    said = pd.DataFrame({"id": [1, 2], "text": ["abba", None], "planted": ["yes", "no"]})
    with pytest.raises(ValueError, match=r"1 of 2 canaries have no 'text', .* number 2"):
        audit(model, texts, canaries=said, shadows=0)
    with pytest.raises(ValueError, match="have no column 'text', which the model reads"):
        audit(model, texts, canaries=said.rename(columns={"text": "words"}), shadows=0)


# ---------------------------------------------------------------------------- the tables given


def test_the_table_of_the_fit_is_no_holdout(plain, table):
    X, y, X_held, y_held = table
    with pytest.raises(ValueError, match=r"^500 of the 500 held-out rows stand in the training"):
        audit(plain, X, y, X_held=X, y_held=y)
    most = pd.concat([X.head(120), X_held.head(100)], ignore_index=True)
    with pytest.raises(ValueError, match="120 of the 220 held-out rows stand in the training"):
        audit(plain, X, y, X_held=most)
    mixed = pd.concat([X_held.iloc[::-1], X.tail(60)], ignore_index=True)
    labels = pd.concat([y_held.iloc[::-1], y.tail(60)], ignore_index=True)
    found = audit(plain, X, y, X_held=mixed, y_held=labels, by=("town",), shadows=0)
    assert found.tables.overlap.equal == 60
    assert found.to_json()["overlap"]["known"] is True
    assert found.tables.unknown.tolist() == [True] * 400 + [False] * 60
    told = found.words()[0]
    assert told.startswith("Held-out rows: 60 of 460 equal a training row, where chance would")
    alone = audit(plain, X, y, X_held=X_held, y_held=y_held, by=("town",), shadows=0)
    assert alone.words()[0].startswith("Copies")
    rows = {group.name: group.rows for group in alone.groups[0].groups}
    assert {group.name: group.rows for group in found.groups[0].groups} == rows


def levels(count, seed):
    """Rows of which most are equal by chance."""
    rng = np.random.default_rng(seed)
    names = [*"abcdef"]
    return pd.DataFrame({name: rng.choice(["u", "v"], count, p=[0.8, 0.2]) for name in names})


def test_rows_that_are_equal_by_chance_are_no_rows_of_the_fit():
    X, held = levels(300, 0), levels(200, 1)
    model = JointDensity(family="naive_bayes").fit(X)
    found = audit(model, X, X_held=held)
    overlap = found.tables.overlap
    assert overlap.equal > 150
    assert overlap.by_chance == pytest.approx(overlap.equal, abs=15)
    assert not overlap.known
    assert found.words()[0].startswith("Training rows: ")
    assert "of 300 equal another one: membership is not asked of them." in found.words()[0]
    assert "as chance would make about" in found.words()[1]
    assert "needs 100 held-out rows that equal no training row" in found.missing["membership"]
    assert found.copies is not None
    assert found.tables.unknown.all()


def test_members_and_strangers_that_equal_no_other_row_are_alike():
    """Of a content that stands c times, the same share of members and of strangers is left."""
    inside = 0.7  # the chance of a row to be in the fit
    for times in (1, 2, 3, 4):
        members = strangers = 0.0
        for each in itertools.product([True, False], repeat=times):
            chance = np.prod([inside if member else 1 - inside for member in each])
            members += chance * (sum(each) == 1)
            strangers += chance * times * (sum(each) == 0)
        assert members / (times * inside) == pytest.approx(strangers / (times * (1 - inside)))


def test_another_table_than_that_of_the_fit_is_told(plain, table, tmp_path):
    X, y, X_held, _ = table
    shuffled = X.sample(frac=1, random_state=0)[["town", "b", "a"]].assign(other=1)
    for rows, of_fit in ((X, True), (shuffled, True), (X.head(499), False), (X_held, False)):
        found = audit(plain, rows, y.head(len(rows)), shadows=0)
        assert found.tables.of_fit is of_fit
        assert found.to_json()["rows_of_fit"] is of_fit
        told = found.words()[0].startswith("Training rows: the table given is not that of the fit")
        assert told is not of_fit
    plain.save(tmp_path / "m")
    assert audit(conjoin.load(tmp_path / "m"), X, y, shadows=0).tables.of_fit is True
    older = conjoin.load(tmp_path / "m")
    for name in ("read", "data_sha256"):
        del older.model_.card[name]
    words = audit(older, X, y, shadows=0).words()
    assert "whether the table given is that of the fit is not recorded" in words[0]


def test_contents_are_those_of_what_is_read(plain, table):
    X = table[0].head(3).assign(other=range(3))
    found = contents(plain.model_.codec, plain.model_.rows(X))
    assert len(set(found)) == 3
    for name, cell in (("a", np.nan), ("a", 9.5), ("town", "south-west"), ("town", None)):
        odd = X.copy()
        odd.loc[1, name] = cell
        odd.loc[2, "other"] = 7  # which is not read
        rows = plain.model_.rows(odd.astype({"town": object}))
        assert (contents(plain.model_.codec, rows) == found).tolist() == [True, False, True]
    middle = float(plain.model_.codec.decode(torch.zeros(1, 3, dtype=torch.float64))["a"].iloc[0])
    pair = X.iloc[[0, 0]].assign(a=[middle, np.nan])
    zero, missing = contents(plain.model_.codec, plain.model_.rows(pair))
    assert zero != missing


def test_a_digest_does_not_depend_on_who_read_the_table(tmp_path, monkeypatch, capsys):
    """Codes, dates and gaps are read in other ways by pandas than by the command line."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": rng.integers(0, 9, 120),
            "gaps": np.where(rng.random(120) < 0.2, np.nan, rng.integers(0, 9, 120)),
            "day": pd.date_range("2020-01-01", periods=120).astype(str),
            "flag": rng.random(120) < 0.5,
        }
    )
    frame.to_csv("rows.csv", index=False)
    assert run(["fit", "rows.csv", "--family", "nb", "-q", "-o", "m"]) == 0
    model = conjoin.load("m")
    assert audit(model, pd.read_csv("rows.csv"), shadows=0).tables.of_fit is True
    assert audit(model, frame.assign(number=frame["number"] + 1), shadows=0).tables.of_fit is False
    assert run(["audit", "m", "rows.csv", "--holdout", "rows.csv", "--no-card"]) == 2
    assert "Give such rows as --holdout, or none." in capsys.readouterr().err


@pytest.mark.parametrize("said", [["yes", "yes"], ["no", "no"]])
def test_canaries_need_both_sides(table, said):
    X = table[0][["a", "b"]]
    with pytest.raises(ValueError, match=r"of 2 canaries were planted by the column 'planted'"):
        planted(Knows(X), X.head(2).assign(planted=said), X, np.random.default_rng(0))


def test_a_model_with_planted_strings_and_one_without_are_told_apart():
    """Codes of ten letters, which nothing but memory makes likely."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcd"), 10)) for _ in range(300)]
    codes = ["".join(rng.choice(list("wxyz"), 10)) for _ in range(40)]
    said = pd.DataFrame({"text": codes, "planted": ["yes"] * 20 + ["no"] * 20})
    held = ["".join(rng.choice(list("abcd"), 10)) for _ in range(150)]
    verdicts = []
    for extra in (codes[:20] * 3, []):
        taught = [*texts, *extra]
        model = JointDensity(family="ngram", types={"text": "text"}).fit(taught)
        found = audit(model, taught, X_held=held, canaries=said, shadows=0, draws=300)
        verdicts.append((found.planted.remembered, found.extraction[0].p_value < 0.01))
        assert found.copies is None
        assert "shadow" in found.missing["membership"]
    assert [remembered for remembered, _ in verdicts] == [True, False]
    assert verdicts[1][1] is False


# ---------------------------------------------------------------------------------- membership


def test_the_likelihood_ratio_by_hand():
    own = np.array([3.0, 1.0])
    shadows = np.array([[3.0, 3.0], [1.0, 1.0], [3.5, 3.5], [0.5, 0.5]])
    inside = np.array([[True, True], [False, False], [True, True], [False, False]])
    ratio = _ratios(own, shadows, inside)
    # means 3.25 and .75, both spreads .25 * sqrt(2)
    spread = 0.25 * np.sqrt(2)
    expected = [-0.5 * ((x - 3.25) / spread) ** 2 + 0.5 * ((x - 0.75) / spread) ** 2 for x in own]
    assert ratio == pytest.approx(expected)


def test_a_model_that_keeps_its_rows_is_told_apart_from_one_that_does_not():
    rng = np.random.default_rng(0)
    count = 300
    hardness = rng.normal(size=2 * count)
    inside = np.stack([rng.random(2 * count) < 0.5 for _ in range(2)])
    inside = np.concatenate([inside, ~inside])

    class Scores:
        def __init__(self, keeps):
            self.scores = hardness + keeps * (np.arange(2 * count) < count)

        def score_samples(self, X):
            return self.scores[np.asarray(X)]

    for keeps, apart in ((2.0, True), (0.0, False)):
        noise = 0.3 * rng.normal(size=inside.shape)
        shadows = hardness + keeps * inside + noise
        places = np.arange(2 * count)
        found = membership(Scores(keeps), places[:count], places[count:], shadows, inside)
        assert found.told_apart is apart
        assert found.interval[0] <= found.rate <= found.interval[1]
        assert found.strangers == count
    assert found.rate < 0.05
    assert found.auc == pytest.approx(0.5, abs=0.08)


def test_the_chance_of_members_above_a_stranger_by_counting_all_orders():
    orders = list(itertools.permutations([True] * 3 + [False] * 4))
    for spare in (0, 1, 3):
        above = []
        for order in orders:
            strangers = [place for place, member in enumerate(order) if not member]
            above.append(sum(order[: strangers[spare]]))
        for found in range(4):
            share = np.mean([count >= found for count in above])
            assert chance_of(found, 3, spare, 4) == pytest.approx(share)


class Stated:
    """An estimator whose log p of a row is the row."""

    def score_samples(self, X):
        return np.asarray(X, dtype=float)


@pytest.mark.parametrize("strangers", [100, 200, 500])
def test_without_memory_few_strangers_tell_nobody_apart(strangers):
    rng = np.random.default_rng(strangers)
    members = 2_000
    audits = 500
    inside = np.tile([[True], [False]], (1, members + strangers))
    shadows = np.tile([[1.0], [-1.0]], (1, members + strangers))  # the ratio grows with log p
    found = []
    for _ in range(audits):
        own = rng.normal(size=members + strangers)
        found.append(membership(Stated(), own[:members], own[members:], shadows, inside))
    assert np.mean([each.told_apart for each in found]) <= 0.05
    p_values = np.array([each.p_value for each in found])
    for level in (0.01, 0.05, 0.2):  # valid at each level, up to three deviations of 500 audits
        assert (p_values <= level).mean() < level + 3 * np.sqrt(level * (1 - level) / audits)


# ------------------------------------------------------------------------------------- strings


def test_strings_that_come_back_are_counted_beside_those_of_chance():
    train = [f"secret {place}" for place in range(40)] + ["common"] * 9
    held = [f"other {place}" for place in range(40)] + ["common"]
    noise = np.random.default_rng(0)
    found = extraction("text", train, held, [*train[:12], "other 1", "common"], noise)
    assert (found.rare, found.given_back, found.by_chance) == (40, 12, 1)
    assert found.p_value < 0.01
    assert found.passages == 0  # strings under 50 characters have none
    assert extraction("text", train, held, ["common"], noise).p_value == 1.0


def test_passages_of_long_texts_are_found():
    noise = np.random.default_rng(0)
    letters = list("abcdefghij")
    train = ["".join(noise.choice(letters, 120)) for _ in range(5)]
    held = ["".join(noise.choice(letters, 120)) for _ in range(5)]
    drawn = [f"xx{train[0][20:90]}yy", "".join(noise.choice(letters, 120))]
    found = extraction("text", train, held, drawn, noise)
    assert (found.given_back, found.passages, found.passages_by_chance) == (0, 1, 0)


def test_columns_of_strings_hold_mostly_different_ones():
    frame = pd.DataFrame({"name": list("abcdef"), "level": list("aabbaa"), "n": range(6)})
    assert string_columns(frame) == ["name"]


# -------------------------------------------------------------------------------------- groups


def test_groups_of_numbers_are_quarters_and_small_groups_are_put_together():
    numbers = pd.Series([*range(100), None], name="n")
    found = groups_of(numbers)
    assert found.nunique() == 5
    assert (found == "missing").sum() == 1
    many = pd.Series([str(place % 30) for place in range(300)] + ["0"] * 5)
    assert groups_of(many).nunique() == 13
    assert "all others" in set(groups_of(many))


def test_the_worst_group_is_named(table, plain):
    X, y, X_held, y_held = table
    found = audit(
        plain, X, y, X_held=X_held, y_held=y_held, by=("town", "label"), shadows=0, max_error=0.2
    )
    towns, labels = found.groups
    assert (towns.worst, towns.worse) == ("south", True)
    guess = plain.predict(X_held)
    for group in towns.groups:
        here = (X_held["town"] == group.name).to_numpy()
        assert group.rows == here.sum()
        assert group.wrong.count == (guess[here] != y_held[here]).sum()
        assert group.wrong.low <= group.wrong.share <= group.wrong.high
    assert {group.name for group in labels.groups} == {"yes", "no"}
    words = " ".join(found.words())
    assert "most errors in south" in words
    assert "beyond chance" in words
    assert "Energy of the fit: 0.0" in words
    with pytest.raises(ValueError, match="There is no column 'city' to tell groups by"):
        audit(plain, X, y, X_held=X_held, y_held=y_held, by=("city",), shadows=0)
    with pytest.raises(ValueError, match="shadows must be even"):
        audit(plain, X, y, shadows=3)


def test_a_broken_promise_is_named_by_group(table, plain):
    """Labels of one town are turned, which the calibration rows knew nothing of."""
    X, y, X_held, y_held = table
    turned = y_held.where(X_held["town"] == "north", y_held.map({"yes": "no", "no": "yes"}))
    found = audit(plain, X, y, X_held=X_held, y_held=turned, by=("town",), shadows=0, max_error=0.2)
    assert found.groups[0].broken == ["south"]
    assert "broken in south" in " ".join(found.words())


def group(name, wrong, rows, level=0.975):
    rate = _rate(np.arange(rows) < wrong, level)
    return Group(name, rows, 0.0, None, rate, rate, rate)


def test_groups_that_are_served_alike_are_not_called_worse():
    """One of 2,000 rows and one of 5, both with one error in ten."""
    rng = np.random.default_rng(0)
    said = []
    for _ in range(400):
        groups = [group(str(n), int(rng.binomial(n, 0.1)), n) for n in (2_000, 5)]
        said.append(_judged("c", groups, 0.05, 0.05, "").worse)
    assert np.mean(said) <= 0.05
    assert _judged("c", [group("a", 300, 1_000), group("b", 200, 1_000)], 0.05, 0.05, "").worse


def test_the_worst_of_many_groups_that_are_served_alike_is_not_called_worse():
    """Tested as one group, it would be in a third of the tables."""
    rng = np.random.default_rng(1)
    said = []
    for _ in range(100):
        wrong = rng.binomial(200, 0.1, 12)
        groups = [group(str(place), int(count), 200) for place, count in enumerate(wrong)]
        said.append(_judged("c", groups, 0.05, 0.05, "").worse)
    assert np.mean(said) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([(1, 2), (0, 0)], "not broken beyond chance in any group; they have too few"),
        ([(1, 1_000), (1, 2)], "not broken beyond chance in any group; kept in a; the others"),
        ([(1, 1_000), (5, 1_000)], "kept in each group."),
        ([(1, 1_000), (90, 100)], "broken in b, and kept in a."),
        ([(3, 40), (90, 100)], "broken in b."),
    ],
)
def test_a_promise_is_kept_only_where_that_is_shown(counts, words):
    groups = [group(name, *each) for name, each in zip("ab", counts, strict=True)]
    found = _judged("c", groups, 0.05, 0.05, "")
    assert f"The promise of at most 0.05 errors is {words}" in " ".join(_of_groups(found))


# -------------------------------------------------------------------------------------- the verb


def test_labels_stay_with_their_strings_where_one_is_missing(capsys):
    frame = pd.DataFrame({"text": ["a", "b", None, "d", "e", "f"], "y": list("pqrstu")})

    target = SimpleNamespace(name="y", discrete=True, labels=list("pqrstu"))
    schema = SimpleNamespace(modelled=[SimpleNamespace(name="text")])
    codec = SimpleNamespace(columnwise=False, schema=schema)
    texts, labels = _parts(frame, target, codec, "rows.csv", Voice())
    assert list(zip(texts, labels, strict=True)) == list(zip("abdef", "pqstu", strict=True))
    assert list(labels.index) == [0, 1, 2, 3, 4]
    assert "1 of 6 rows of rows.csv have no 'text'" in capsys.readouterr().err


def test_what_can_not_be_measured_is_said(plain, table):
    X, y, X_held, y_held = table
    found = audit(plain, X, y)
    assert found.membership is None
    assert "never seen" in found.missing["membership"]
    few = audit(plain, X, y, X_held=X_held.head(50), y_held=y_held.head(50))
    assert "needs 100 held-out rows, there are 50" in few.missing["membership"]
    bare = audit(plain, X, None, X_held=X_held)
    assert "labels are missing" in bare.missing["membership"]
    assert json.loads(json.dumps(found.to_json()))["membership"] is None
    assert conjoin.audit is audit


def test_the_verb_writes_a_page_and_the_card(table, tmp_path, monkeypatch, capsys):
    X, y, X_held, y_held = table
    monkeypatch.chdir(tmp_path)
    canaries = strange_rows(X, None, 10, np.random.default_rng(0))[0]
    canaries.to_csv("planted.csv", index=False)
    pd.concat([X, canaries]).assign(label=[*y, *(["yes"] * 10)]).to_csv("train.csv", index=False)
    X_held.assign(label=y_held).to_csv("held.csv", index=False)
    assert (
        run(
            [
                "fit",
                "train.csv",
                "--target",
                "label",
                "--family",
                "nb",
                "--predictor",
                "none",
                "-q",
                "-o",
                "m",
            ]
        )
        == 0
    )
    line = "audit m train.csv --holdout held.csv --by town --canaries planted.csv --shadows 2"
    before = conjoin.load("m").model_
    assert run([*line.split(), "--max-error", "0.2", "-o", "audit.html", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["membership"]["interval"][0] <= found["membership"]["tpr_at_1_percent_fpr"]
    assert found["membership"]["shadows"] == 2
    assert found["planted"]["canaries"] == 10
    page = (tmp_path / "audit.html").read_text()
    assert "<h2>What is remembered</h2>" in page
    assert "Groups by town" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    card = (tmp_path / "m" / "README.md").read_text()
    assert card.count("## Audit") == 1
    assert "Membership: training rows" in card
    assert "## Columns" in card
    assert run([*line.split(), "--no-card", "-q"]) == 0
    assert (tmp_path / "m" / "README.md").read_text() == card
    from conjoin.model.saving import model_hash

    assert model_hash(conjoin.load("m").model_) == model_hash(before)


def test_a_later_audit_takes_the_place_of_an_earlier_one():
    card = "# A model\n\nwords\n\n## Columns\n\n- a\n"
    one = with_audit(card, ["first"])
    assert one == card.rstrip() + "\n\n## Audit\n\n- first\n"
    assert with_audit(one, ["second"]) == card.rstrip() + "\n\n## Audit\n\n- second\n"
    moved = "# A model\n\n## Audit\n\n- first\n\n## Columns\n\n- a\n"
    assert with_audit(moved, ["x"]) == "# A model\n\n## Columns\n\n- a\n\n## Audit\n\n- x\n"


def test_tables_that_lack_a_column_of_the_fit_are_refused(plain, table):
    """Rows of fewer cells are likelier or rarer than whole ones, which is no memory."""
    X, y, X_held, y_held = table
    with pytest.raises(ValueError, match=r"^The held-out rows lack 'town': .* fit: a, b, town"):
        audit(plain, X, y, X_held=X_held.drop(columns="town"), y_held=y_held, shadows=0)
    with pytest.raises(ValueError, match=r"^The training table lacks 'b': "):
        audit(plain, X.rename(columns={"b": "breadth"}), y, shadows=0)


@pytest.mark.parametrize("rates", [{"max_error": 2}, {"false_alarm": -1}, {"max_error": np.nan}])
def test_rates_lie_between_0_and_1(plain, table, rates):
    with pytest.raises(ValueError, match=f"{next(iter(rates))} must lie between 0 and 1"):
        audit(plain, *table[:2], shadows=0, **rates)


def test_whether_a_canary_was_planted_is_yes_or_no(plain, table):
    told = table[0].head(3).assign(planted=["yes", "no", "maybe"])
    with pytest.raises(ValueError, match="says 'maybe' in row 3; it takes yes or no"):
        audit(plain, *table[:2], canaries=told, shadows=0)
