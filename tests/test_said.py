"""What a fit and its answers say: every column that is set aside, pooled, parsed or assumed, rows
of which hardly anything is known, and rates that can't be promised."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

import conjoin
from conjoin.codecs import TableCodec


def table(rows=400):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "patient id": [f"u{i}" for i in range(rows)],
            "city": rng.choice([f"c{i}" for i in range(150)], rows),
            "a": rng.normal(size=rows),
            "b": rng.normal(size=rows),
            "code": rng.integers(0, 4, rows),
            "const": 1,
        }
    )
    y = (X["a"] + 0.5 * rng.normal(size=rows) > 0).map({True: "yes", False: "no"})
    return X, y.rename("y")


def fitted(kind=conjoin.JointClassifier, **settings):
    X, y = table()
    model = kind(family="naive_bayes", **({"predictor": None} | settings))
    return model.fit(X[["a", "b"]], y if kind is conjoin.JointClassifier else X["b"] + X["a"])


def test_fit_warns_once_of_each_column_that_is_set_aside_pooled_or_doubted():
    X, y = table()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = conjoin.JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    said = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    assert said == model.notices_
    assert len(said) == len(set(said))
    for name in ("patient id", "const", "city", "code"):
        assert sum(f"Column {name!r}" in text for text in said) == 1, name
    assert not any("Column 'a'" in text for text in said)
    assert {each.filename for each in caught} == {__file__}


def test_notices_outlive_the_folder(tmp_path):
    X, y = table()
    model = conjoin.JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    model.save(tmp_path / "m")
    assert conjoin.load(tmp_path / "m").notices_ == model.notices_


def test_strict_refuses_before_the_training_and_repeats_the_notices():
    X, y = table()
    strict = conjoin.JointClassifier(family="naive_bayes", predictor=None, strict=True)
    with pytest.raises(
        ValueError, match=r"strict=True.*'code' has only.*'patient id' is set aside"
    ):
        strict.fit(X, y)
    Y = pd.DataFrame({"y": y, "z": X["b"]})
    with pytest.raises(ValueError, match=r"strict=True.*'const' is set aside"):
        conjoin.JointClassifier(family="circuit", strict=True).fit(X.drop(columns="b"), Y)
    assert strict.fit(X[["a", "b"]], y).notices_ == []


def test_verbose_ends_with_what_the_shell_says(capsys):
    model = fitted(verbose=True)
    said = capsys.readouterr().err
    for words in ("2 classes: no, yes", "2 modelled", "to calibrate", "can be promised", "exact"):
        assert words in said, words
    assert model.predict(table()[0][["a", "b"]])[0] in ("yes", "no")


def test_columns_that_the_fit_did_not_have_are_named_at_predict():
    X, y = table()
    model = fitted()
    with pytest.warns(UserWarning, match="has the column 'extra', which is not of the fit"):
        model.predict(X[["a", "b"]].assign(extra=1))
    with pytest.warns(UserWarning, match="has the columns 'p', 'q', which are not of the fit"):
        model.score_samples(X[["a", "b"]].assign(p=1, q="w"))
    whole = conjoin.JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole.predict(X)  # a column that was set aside is known
        model.predict(X[["a", "b"]].assign(y=y))  # and so is the target


def test_without_an_error_rate_only_false_alarms_are_promised():
    X = table()[0][["a", "b"]]
    X.loc[0] = [40.0, -40.0]
    for kind in (conjoin.JointClassifier, conjoin.JointRegressor):
        model = fitted(kind)
        found = model.decide(X, max_error=None)
        assert set(found["verdict"]) == {"accept", "unfamiliar"}
        assert found["verdict"][0] == "unfamiliar"
        accepted = found[found["verdict"] == "accept"]
        assert (accepted["answer"] == accepted["best_guess"]).all()
        assert (found["familiarity"] <= 0.05).eq(found["verdict"] == "unfamiliar").all()
    with pytest.raises(ValueError, match="max_width is of the interval"):
        model.decide(X, max_error=None, max_width=1.0)
    y = (X["a"] > 0).map({True: "yes", False: "no"})
    assert fitted().evaluate(X, y, max_error=None)["error_asked"] is None


def test_too_few_calibration_rows_are_told_in_the_rates_that_are_asked():
    X, y = table(60)
    X = X[["a", "b"]]
    none = conjoin.JointClassifier(family="naive_bayes", predictor=None)
    none.fit(X, y, calibration=0)
    with pytest.raises(
        ValueError, match=r"false-alarm rate of 0.1 needs 9, an error rate of 0.2 n"
    ):
        none.decide(X, false_alarm=0.1, max_error=0.2)
    with pytest.raises(ValueError, match=r"\(a false-alarm rate of 0.01 needs 99\)"):
        none.decide(X, false_alarm=0.01, max_error=None)
    X, y = table(200)
    X = X[["a", "b"]]
    few = conjoin.JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    with pytest.raises(ValueError, match=r"false-alarm rate of 0.02 needs 49 calibration rows"):
        few.decide(X, false_alarm=0.02, max_error=0.2)
    with pytest.raises(ValueError, match=r"An error promise of 0.02 needs 149"):
        few.decide(X, false_alarm=0.2, max_error=0.02)


def test_rows_of_which_nearly_everything_is_missing_say_so():
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal(size=(500, 20)), columns=[f"c{i}" for i in range(20)])
    y = np.where(X["c0"] > 0, "yes", "no")
    model = conjoin.JointClassifier(family="naive_bayes", predictor=None).fit(X, y)
    asked = X.iloc[:3].copy()
    asked.iloc[0] = np.nan
    asked.iloc[1, 2:] = np.nan
    for max_error in (None, 0.3):
        found = model.decide(asked, max_error=max_error, false_alarm=0.05)
        assert found["verdict"][0] == "ambiguous"
        assert found["reason"][0] == "20 of 20 columns are missing: too little is known"
        assert found["reason"][1] == "18 of 20 columns are missing: too little is known"
        assert found["answer"][0] is None
    assert "missing" not in found["reason"][2]


def test_dir_shows_the_public_names():
    assert set(conjoin.__all__) <= set(dir(conjoin))
    assert "importlib" not in dir(conjoin)


def test_rates_of_no_rows_are_null_and_rates_of_rows_have_intervals():
    X, y = table()
    model = fitted()
    found = model.evaluate(X[["a", "b"]], y, max_error=0.3)
    for name in ("accuracy", "accepted", "false_alarm_got", "error_among_accepted"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 1, name
        assert low < high
    # 400 rows, share p: the exact interval is about p +- 1.96 sqrt(p (1 - p) / 400)
    spread = 1.96 * np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 400)
    assert found["accuracy_interval"][0] == pytest.approx(found["accuracy"] - spread, abs=0.006)
    assert set(found["accepted_wrong_per_class_interval"]) == {"yes", "no"}
    far = X[["a", "b"]] * 0 + 1000.0
    nothing = model.evaluate(far, y, max_error=0.3)
    assert nothing["accepted"] == 0.0
    assert nothing["accepted_interval"][0] == 0.0
    assert nothing["error_among_accepted"] is None
    assert nothing["error_among_accepted_interval"] is None


def test_the_median_of_log_p_stands_beside_the_mean():
    X = table()[0][["a", "b"]]
    model = fitted()
    odd = X.copy()
    odd.iloc[0] = 1e6
    each = model.score_samples(odd)
    found = model.evaluate(odd)
    assert found["log_prob"] == pytest.approx(each.mean())
    assert found["log_prob_median"] == pytest.approx(np.median(each))
    assert found["log_prob_median"] > found["log_prob"] + 1


def scored(rows=300):
    rng = np.random.default_rng(5)
    return pd.DataFrame({"score": rng.integers(0, 101, rows), "b": rng.normal(size=rows)})


def test_a_fraction_among_whole_numbers_is_a_reason_of_its_row():
    model = conjoin.JointDensity(family="naive_bayes").fit(scored())
    for rows, reason in [
        ([0.9], ["score: 0.9 lies between the steps of 1 and is taken as 1"]),
        (
            [40.0, 40.25, np.nan],
            ["", "score: 40.25 lies between the steps of 1 and is taken as 40", ""],
        ),
    ]:
        found = model.decide(pd.DataFrame({"score": rows, "b": 0.1}), reasons=False)
        assert found["reason"].tolist() == reason
    assert not model.decide(scored(20), reasons=False)["reason"].any()


def test_a_fraction_that_is_asked_of_whole_numbers_is_told():
    model = conjoin.JointDensity(family="naive_bayes").fit(scored())
    said = "'score' is asked for 90.4, which lies between its steps of 1 and is taken as 90"
    with pytest.warns(conjoin.ColumnWarning, match=said):
        X, _ = model.sample(3, given={"score": 90.4})
    assert X["score"].tolist() == [90, 90, 90]
    assert (model.sample(3, given={"score": 90})[0]["score"] == 90).all()
    with pytest.warns(conjoin.ColumnWarning, match="'score' is asked for 20.7, .* taken as 21"):
        X, _ = model.sample(9, given={"score": (20.7, 30)})
    assert X["score"].between(21, 30).all()


def test_true_among_whole_numbers_is_told():
    model = conjoin.JointDensity(family="naive_bayes").fit(scored())
    mixed = pd.DataFrame({"score": pd.Series([40, True, None, False], dtype=object), "b": 0.1})
    with pytest.warns(conjoin.CellWarning, match="'score' .* 2 cells are True or False: they are"):
        found = model.decide(mixed, reasons=False)
    said = ["", "score: True is taken as 1", "", "score: False is taken as 0"]
    assert found["reason"].tolist() == said
    with pytest.warns(conjoin.CellWarning, match="1 cell is True or False"):
        model.score_samples(pd.DataFrame({"score": [True], "b": 0.1}))


# ------------------------------------------------------------------------------------ the target


def plain(rows=300):
    rng = np.random.default_rng(3)
    return rng, pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})


def quietly(kind, X, y, **settings):
    settings = {"family": "naive_bayes", "predictor": None} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return kind(**settings).fit(X, y)


def test_blanks_and_spellings_among_the_classes_are_told():
    rng, X = plain()
    y = pd.Series(rng.choice(["yes ", "NO", "", " ", "nan", "Yes", "No"], len(X)), name="bought")
    model = quietly(conjoin.JointClassifier, X, y)
    said = " ".join(model.notices_)
    assert "Target 'bought' has the word '', ' ', 'nan'" in said
    assert "say missing={'bought': ['', ' ', 'nan']}" in said
    assert "differ only in case or spaces: 'Yes', 'yes '" in said or "'yes ', 'Yes'" in said
    assert "'NO'" in said and len(model.notices_) == 3
    told = quietly(conjoin.JointClassifier, X, y, missing={"bought": ["", " ", "nan"]})
    assert told.classes_.tolist() == ["NO", "No", "Yes", "yes "]
    assert told.model_.target.missing == ("", " ", "nan")
    known = ~y.isin(["", " ", "nan"])
    assert told.evaluate(X, y)["accuracy"] == np.mean(told.predict(X[known]) == y[known])
    clean = pd.Series(rng.choice(["yes", "no"], len(X)), name="bought")
    assert quietly(conjoin.JointClassifier, X, clean).notices_ == []


def test_a_number_of_the_target_far_from_the_others_is_told():
    rng, X = plain()
    y = pd.Series(rng.normal(50, 5, len(X)).round(1), name="weight")
    assert quietly(conjoin.JointRegressor, X, y).notices_ == []
    y[:24] = 9999
    (said,) = quietly(conjoin.JointRegressor, X, y).notices_
    assert said.startswith("Target 'weight' is 9999 in 24 rows, far from the other values (")
    assert said.endswith("if it means missing, say missing={'weight': [9999]}.")
    model = quietly(conjoin.JointRegressor, X, y, missing={"weight": 9999})
    assert model.notices_ == []
    assert np.abs(model.predict(X) - 50).max() < 5


def test_what_is_told_of_one_target_is_told_of_each_of_several():
    rng = np.random.default_rng(3)
    X = pd.DataFrame({"x": rng.normal(size=300)})
    word = pd.Series(np.where(X["x"] > 0, "Yes", "no"), dtype=object)
    word[:3] = ["yes ", "", "nan"]
    code = pd.Series(rng.integers(0, 3, 300))
    code[:4] = -1
    size = X["x"].round(2) + 20
    size[5] = 9999
    Y = pd.DataFrame({"word": word, "code": code.map(str), "flag": code, "size": size})
    columns = {}
    for name, kind in (("word", conjoin.JointClassifier), ("flag", conjoin.JointClassifier)):
        columns[name] = kind(family="naive_bayes", predictor=None).fit(X, Y[name])
    columns["size"] = conjoin.JointRegressor(family="naive_bayes", predictor=None).fit(X, Y["size"])
    several = conjoin.JointClassifier(family="mixture").fit(X, Y)
    for name, model in columns.items():
        told = [each for each in model.notices_ if each.startswith(f"Target {name!r}")]
        assert told
        if name == "flag":  # whole numbers are a number beside other targets
            told = [each.replace("a class of its own", "the number -1") for each in told]
        assert set(told) <= set(several.notices_)
    with pytest.raises(ValueError, match=r"strict=True.*Target 'word' has the word"):
        conjoin.JointClassifier(family="mixture", strict=True).fit(X, Y)
    said = {"size": [9999], "word": ["", "nan"], "flag": [-1]}
    settled = conjoin.JointClassifier(family="mixture", missing=said).fit(X, Y)
    assert not any(
        f"Target {name!r}" in each and value in each
        for name, value in (("size", "9999"), ("word", "'nan'"), ("flag", "-1"))
        for each in settled.notices_
    )
    assert settled.classes_["word"].tolist() == ["Yes", "no", "yes "]
    assert settled.predict(X)["size"].max() < 30


CODES = {
    "number": (-999.0, "Column 'a' is -999 in 1 row, far from the other values"),
    "whole": (9999, "Column 'a' is 9999 in 1 row, far from the other values"),
    "written": ("$99,999", "Column 'a' is 99999 in 1 row, far from the other values"),
    "date": (pd.Timestamp("2199-12-31"), "Column 'a' is 2199-12-31 00:00:00 in 1 row, far from"),
    "word": ("n/a", "Column 'a' has the word 'n/a'; if it means missing, say missing="),
    "spelling": ("Red ", "Column 'a' has spellings that differ only in case or spaces"),
}


def coded(kind, rows=300):
    """A column, and its first row with what may mean "missing"."""
    rng = np.random.default_rng(4)
    days = rng.integers(0, 200, rows)
    plain = {
        "number": rng.normal(0, 3, rows),
        "whole": rng.integers(20, 90, rows),
        "written": [f"${each:,}" for each in rng.integers(500, 90_000, rows) // 7],
        "date": pd.Timestamp("2024-01-01") + pd.to_timedelta(days, "D"),
        "word": rng.choice(["red", "blue"], rows),
        "spelling": rng.choice(["red", "blue"], rows),
    }[kind]
    frame = pd.DataFrame({"a": pd.Series(plain), "b": rng.normal(size=rows)})
    odd = frame.copy()
    odd["a"] = odd["a"].astype(object) if odd["a"].dtype != "int64" else odd["a"]
    odd.loc[0, "a"] = CODES[kind][0]
    return frame, odd.infer_objects()


@pytest.mark.parametrize("kind", CODES)
def test_what_only_rows_have_that_do_not_teach_is_told_and_counts_as_never_seen(kind):
    frame, odd = coded(kind)
    codec = TableCodec().fit(frame[1:])
    before = codec.encode(odd)
    assert not any(CODES[kind][1] in each for each in codec.notices)
    codec.recount(odd)
    (told,) = [each for each in codec.notices if CODES[kind][1] in each]
    assert ("counts as never seen" in told) == (kind not in ("word", "spelling"))
    again = TableCodec.from_json(json.loads(json.dumps(codec.to_json())))
    for each in (codec, again):
        after = each.encode(odd)
        assert after.unseen[:, 0].tolist() == [True] + [False] * (len(odd) - 1)
        assert after.log_unseen[0] <= np.log(1e-6) or kind in ("word", "spelling")
        assert (after.event.value[1:] == before.event.value[1:]).all()
        assert (after.event.mask[1:] == before.event.mask[1:]).all()
    taught = TableCodec().fit(odd)
    taught.recount(odd)
    assert not any("counts as never seen" in each for each in taught.notices)
    assert sum(CODES[kind][1] in each for each in taught.notices) == 1


@pytest.mark.parametrize("family", ["naive_bayes", "circuit"])
def test_a_code_is_told_in_whichever_part_of_the_rows_it_is(family):
    frame, _ = coded("date", 400)
    y = pd.Series(np.where(frame["b"] > 0, "p", "q"), name="y")
    parts = set()
    for row in range(0, 60, 5):
        odd = frame.copy()
        odd.loc[row, "a"] = pd.Timestamp("2199-12-31")
        model = quietly(conjoin.JointClassifier, odd, y, family=family)
        (told,) = [each for each in model.notices_ if "2199-12-31" in each]
        parts.add("counts as never seen" in told)
        verdict = model.decide(odd[row : row + 1], max_error=None)
        assert verdict["log_prob"].item() > -30
        if "counts as never seen" in told:
            assert "a 2199-12-31 00:00:00 was never seen" in verdict["reason"].item()
            assert (model.sample(500, random_state=0)[0]["a"].dt.year == 2024).all()
        if len(parts) == 2:
            break
    assert parts == {True, False}
    with pytest.raises(ValueError, match=r"strict=True.*2199-12-31"):
        quietly(conjoin.JointClassifier, odd, y, strict=True)


def test_a_number_near_the_others_that_may_be_a_code_keeps_its_distance():
    """A skin fold of 99 mm beside 7 to 63 may be one."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": [99, *rng.integers(7, 63, 299)], "b": rng.normal(size=300)})
    codec = TableCodec().fit(frame[1:])
    codec.recount(frame)
    (told,) = [each for each in codec.notices if "'a' is 99 in 1 row" in each]
    assert "never seen" not in told and not codec.encode(frame).unseen.any()
    assert codec.schema["a"].held_out == ()


def test_a_code_that_was_never_seen_cannot_be_asked_for():
    frame, _ = coded("number")
    for row in range(40):
        odd = frame.copy()
        odd.loc[row, "a"] = -999.0
        model = quietly(conjoin.JointRegressor, odd, frame["b"].rename("y"))
        if model.model_.codec.schema["a"].held_out:
            break
    assert model.model_.codec.schema["a"].held_out == (-999.0,)
    with pytest.raises(ValueError, match=r"given asks for a=-999\.0, which was never seen at fit"):
        model.sample(3, given={"a": -999.0})
    assert model.sample(3, given={"a": (-5, 5)}, random_state=0)[0]["a"].between(-5, 5).all()


def test_dates_among_several_targets_are_refused_with_what_helps():
    frame, _ = coded("date")
    Y = pd.DataFrame({"day": frame["a"], "n": frame["b"]})
    with pytest.raises(ValueError, match=r"target 'day' holds dates .* give days"):
        quietly(conjoin.JointClassifier, frame[["b"]], Y, family="mixture")
    Y["day"] -= Y["day"].min()
    with pytest.raises(ValueError, match=r"target 'day' holds durations.*give seconds"):
        quietly(conjoin.JointClassifier, frame[["b"]], Y, family="mixture")
