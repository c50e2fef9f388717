"""The server of a model of tables: its answers are the estimator's own, its refusals name the
field, its places are bounded and free again when a client leaves, its log holds nothing of what was
asked."""

import asyncio
import json
import logging
import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra: pip install 'conjoin[serve]'")

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conjoin import JointClassifier, JointDensity, JointRegressor
from conjoin.core import CapabilityError, Density
from conjoin.serving.app import create_app
from conjoin.serving.limits import Limits
from conjoin.serving.opening import model_of
from conjoin.serving.row_api import records

SECRET = "Hildegard"


def table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    ill = rng.random(rows) < 0.4
    frame = pd.DataFrame(
        {
            "age": rng.normal(40 + 20 * ill, 6, rows).round(),
            "weight": rng.normal(70, 9, rows).round(1),
            "town": rng.choice(["Bonn", "Ulm", SECRET], rows),
        }
    )
    return frame, pd.Series(np.where(ill, "ill", "well"), name="state")


@pytest.fixture(scope="module")
def classes():
    X, y = table()
    return JointClassifier(family="naive_bayes", predictor=None).fit(X, y, calibration=0.4)


@pytest.fixture(scope="module")
def number():
    X, _ = table()
    y = X.pop("age")
    return JointRegressor(family="circuit", predictor=None).fit(X, y, calibration=0.4)


@pytest.fixture(scope="module")
def client(classes):
    with TestClient(create_app(classes, "people")) as found:
        yield found


@pytest.fixture(scope="module")
def numbers(number):
    with TestClient(create_app(number, "ages")) as found:
        yield found


ROW = {"age": 61.0, "weight": 70.5, "town": "Ulm"}


def answered(client, path, **body):
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client, path, status=400, **body):
    """The sentence and the field."""
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["message"].count("\n") == 0
    return error["message"], error["param"]


# ----------------------------------------------------------------------------- answers about rows


def test_predictions_are_the_estimators_own(client, classes):
    found = answered(client, "/predict", rows=[ROW, {"age": 30}])
    X = pd.DataFrame([ROW, {"age": 30.0}])
    proba = classes.predict_proba(X)
    for row, own in zip(found["rows"], proba, strict=True):
        assert list(row["proba"].values()) == pytest.approx(own.tolist())
        assert row["answer"] == classes.classes_[own.argmax()]
    assert found["status"] == classes.status_["predict_proba"]


def test_numbers_come_with_an_interval(numbers, number):
    found = answered(numbers, "/predict", rows=[{"weight": 70.5, "town": "Ulm"}])["rows"][0]
    X = pd.DataFrame([{"weight": 70.5, "town": "Ulm"}])
    assert found["answer"] == pytest.approx(number.predict(X)[0])
    low, high = number.predict_quantiles(X, (0.05, 0.95))[0]
    assert (found["low"], found["high"]) == (low, high)


def test_verdicts_are_the_estimators_own(client, classes):
    rows = [ROW, {"age": 900.0, "weight": 70.5, "town": "Ulm"}]
    found = answered(client, "/decide", rows=rows, max_error=0.3, false_alarm=0.1)["rows"]
    own = classes.decide(pd.DataFrame(rows), max_error=0.3, false_alarm=0.1)
    assert [row["verdict"] for row in found] == list(own["verdict"])
    assert [row["familiarity"] for row in found] == pytest.approx(list(own["familiarity"]))
    assert [row["reason"] for row in found] == list(own["reason"])


def test_a_rate_of_one_class(client, classes):
    found = answered(client, "/decide", rows=[ROW], max_error={"ill": 0.3}, false_alarm=0.1)
    own = classes.decide(pd.DataFrame([ROW]), max_error={"ill": 0.3}, false_alarm=0.1)
    assert found["rows"][0]["verdict"] == own["verdict"][0]


def test_scores_and_gaps(client, classes):
    found = answered(client, "/score", rows=[ROW, {"town": None, "age": 30}])
    X = pd.DataFrame([ROW, {"age": 30.0}])
    assert [row["log_prob"] for row in found["rows"]] == pytest.approx(
        classes.score_samples(X).tolist()
    )
    filled = answered(client, "/impute", rows=[{"age": 30}], strategy="mode")["rows"][0]
    gaps = pd.DataFrame([{"age": 30.0, "weight": np.nan, "town": None}])
    own = classes.impute(gaps, strategy="mode").iloc[0]
    assert filled["town"] == own["town"]
    assert filled["weight"] == pytest.approx(own["weight"])
    draws = answered(client, "/impute", rows=[{"age": 30}] * 2, draws=3, seed=4)["rows"]
    assert [row["draw"] for row in draws] == [1, 1, 2, 2, 3, 3]


def test_a_status_is_that_of_the_rows_asked():
    """A forest leaves out missing cells by a bound; p(y | x) is then a ratio of bounds."""
    X, y = table()
    X = X.assign(height=np.random.default_rng(1).normal(170, 9, len(X)))
    model = JointClassifier(family="forest", predictor=None).fit(X, y, calibration=0.4)
    whole = {**ROW, "height": 171.0}
    gaps = {"town": "Ulm", "height": 171.0, "age": None, "weight": None}
    with TestClient(create_app(model, "people")) as client:
        for path, found, many in (
            ("/score", "exact", "lower bound"),
            ("/decide", "exact", "lower bound"),
            ("/predict", "exact", "approximate"),
        ):
            more = {"max_error": 0.3, "false_alarm": 0.1} if path == "/decide" else {}
            assert answered(client, path, rows=[whole], **more)["status"] == found
            assert answered(client, path, rows=[whole, gaps], **more)["status"] == many
        assert answered(client, "/impute", rows=[gaps], draws=2)["status"] == "approximate"
        assert answered(client, "/sample", n=2)["status"] == "exact"
        assert answered(client, "/sample", n=2, given={"age": 50})["status"] == "approximate"


def test_a_density_without_gaps_does_not_forbid_what_a_predictor_says(classes, monkeypatch):
    def refuse(density, event):
        raise CapabilityError("This density", "log_prob with missing cells", "missing='none'")

    model = classes.model_
    density = model.density_of_x
    able = replace(density.capabilities, missing="none")
    monkeypatch.setattr(Density, "status_of", refuse)
    monkeypatch.setattr(type(density), "capabilities", able)
    whole, gaps = (model.encode(pd.DataFrame([row])) for row in (ROW, {**ROW, "age": np.nan}))
    assert model.status_for(whole) == {each: "exact" for each in model.status}
    assert model.status_for(gaps) == {each: "approximate" for each in model.status}


def test_gaps_that_are_summed_out_leave_the_status(client):
    assert answered(client, "/score", rows=[{"age": 30}])["status"] == "exact"
    assert answered(client, "/predict", rows=[{"age": 30}])["status"] == "exact"
    assert answered(client, "/sample", n=2, given={"age": 50})["status"] == "exact"


def test_an_absent_column_is_told(client):
    found = answered(client, "/score", rows=[{"age": 30}])
    assert any("'weight', 'town'" in note for note in found["notes"])


def test_draws_by_a_seed(client, classes):
    asked = {"n": 5, "y": "ill", "given": {"age": {"low": 40, "high": 70}, "town": ["Ulm", "Bonn"]}}
    one = answered(client, "/sample", **asked)
    two = answered(client, "/sample", **asked, seed=one["seed"])
    assert one["rows"] == two["rows"]
    assert all(40 <= row["age"] <= 70 and row["state"] == "ill" for row in one["rows"])
    assert {row["town"] for row in one["rows"]} <= {"Ulm", "Bonn"}


def test_what_if(client, numbers):
    young = {"age": 30.0, "weight": 70.5, "town": "Ulm"}
    found = answered(client, "/counterfactual", rows=[young], to="ill", keep=["town"])["rows"]
    assert all(row["town"] == "Ulm" and row["probability"] > 0.5 for row in found)
    row = {"weight": 70.5, "town": "Ulm"}
    found = answered(numbers, "/counterfactual", rows=[row], to={"low": 30, "high": 80})
    assert found["rows"][0]["changed"]


def test_a_density_is_asked_for_no_label(classes):
    X, _ = table()
    density = JointDensity(family="naive_bayes").fit(X, calibration=0.4)
    with TestClient(create_app(density, "people")) as client:
        assert (
            refused(client, "/predict", 404, rows=[ROW])[0]
            == "There is no POST /predict; see /docs."
        )
        found = answered(client, "/decide", rows=[ROW], false_alarm=0.1)["rows"][0]
        assert found["verdict"] == "accept"


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("/score", {}, "rows", "is missing"),
        ("/score", {"rows": []}, "rows", "at least 1"),
        ("/score", {"rows": [ROW], "row": 1}, "row", "Did you mean 'rows'?"),
        (
            "/score",
            {"rows": [{"agee": 1}]},
            "rows.0",
            "'agee' is none of the model's. Did you mean",
        ),
        ("/score", {"rows": [ROW, {"age": [1]}]}, "rows.1", "'age' holds a list"),
        (
            "/score",
            {"rows": [{"age": 10**30}]},
            "rows.0",
            "'age' is a whole number of more than 64",
        ),
        ("/score", {"rows": [{"town": "\ud800"}]}, "rows.0", "'town' holds half of a character"),
        ("/score", {"rows": "abc"}, "rows", "valid list"),
        ("/score", {"rows": [ROW] * 10_001}, "rows", "at most 10000"),
        ("/sample", {"n": 10**9}, "n", "less than or equal to 10000, got 1000000000"),
        ("/sample", {"y": "dead"}, "y", "y='dead' is none of the classes ill, well"),
        ("/sample", {"y": {"low": 1}}, "y", "is a range"),
        ("/sample", {"given": {"agee": 1}}, "given", "'agee'"),
        ("/sample", {"given": {"age": {"lo": 1}}}, "given.age", "{low, high}"),
        ("/sample", {"where": ["age <"]}, "where", "age <"),
        ("/decide", {"rows": [ROW], "false_alarm": 0}, "false_alarm", "greater than 0"),
        ("/decide", {"rows": [ROW], "false_alarm": 1e-4}, "false_alarm", "needs 9999"),
        (
            "/decide",
            {"rows": [ROW], "max_error": {"dead": 0.1}},
            "max_error",
            "none of the classes",
        ),
        ("/decide", {"rows": [ROW], "max_error": "x"}, "max_error", "of no kind"),
        ("/decide", {"rows": [ROW], "max_width": 3}, "max_width", "predicts none"),
        ("/impute", {"rows": [ROW], "draws": 0}, "draws", "greater than or equal to 1"),
        ("/impute", {"rows": [ROW] * 20, "draws": 1000}, "draws", "at most 10,000"),
        ("/impute", {"rows": [ROW], "strategy": "best"}, "strategy", "'mean', 'median' or 'mode'"),
        ("/counterfactual", {"rows": [ROW] * 600, "n": 20}, "n", "n times rows may be at most"),
        ("/counterfactual", {"rows": [ROW], "to": "ill", "keep": ["x"]}, "keep", "'x'"),
        ("/counterfactual", {"rows": [ROW], "to": ["ill"]}, "to", "one value"),
    ],
)
def test_refusals_name_the_field(client, path, body, field, words):
    if "where" in body:
        body = {**body, "n": 1}
    response = client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["param"] == field, error
    assert words in error["message"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"rows": [\xff]}', "not in UTF-8: see the byte 10"),
        (b'{"n": NaN}', "n: input should be a finite number, got nan"),
        (b'{"rows": [{"age": NaN}]}', "'age' is nan; what is missing is null"),
        (b'{"n": 1', "no JSON"),
        (b"", "must be a JSON object"),
        (b"[" * 100_000, "can't be read as JSON"),
        (b'{"n":' + b"9" * 5_000 + b"}", "can't be read as JSON"),
        (b'{"n": 1, "given": {"\\ud800": 1}}', "\\ud800"),
    ],
)
def test_bodies_that_are_none(client, raw, words):
    path = "/score" if b"rows" in raw else "/sample"
    response = client.post(path, content=raw, headers={"content-type": "application/json"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert words in error["message"]
    assert error["param"] is not None  # the body as a whole, or what of it is wrong


@pytest.mark.parametrize("rows", [[{}], [{}, {}], [{"age": None}]])
def test_a_row_of_which_nothing_is_known_is_a_row(client, rows):
    for path in ("/decide", "/predict", "/score", "/impute", "/counterfactual"):
        rates = {"max_error": 0.3, "false_alarm": 0.1} if path == "/decide" else {}
        told = client.post(path, json={"rows": rows, **rates})
        assert told.status_code == 200, told.text
    assert client.post("/score", json={"rows": rows}).json()["rows"][0]["log_prob"] == 0.0


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["ill", "Ulm", "age", "age <= weight", "1e999", "\ud800", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["age", "town", "weight", "state", "low", "high", "prefix"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("rows", "n", "y", "given", "where", "seed", "to", "keep", "draws", "strategy", "tails"),
        *("false_alarm", "max_error", "max_width", "reasons", "temperature", "top_p", "more"),
    ]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(
        ["/score", "/predict", "/decide", "/impute", "/sample", "/counterfactual"]
    ),
    fields=st.dictionaries(FIELDS, JSON, max_size=4),
    plain=st.booleans(),
)
def test_bad_input_is_never_the_servers_fault(client, path, fields, plain):
    body = {"rows": [ROW], **fields} if plain and path != "/sample" else fields
    raw = json.dumps(body).encode()
    response = client.post(path, content=raw, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        error = response.json()["error"]
        assert error["param"]
        assert len(error["message"].splitlines()) == 1


# ---------------------------------------------------------------------------------- the server


def test_health_metrics_and_the_page(client):
    assert client.get("/health").json() == {"status": "ok", "model": "people"}
    answered(client, "/score", rows=[ROW] * 3)
    figures = client.get("/metrics").text
    assert 'conjoin_requests_total{path="/score",status="200"}' in figures
    assert "conjoin_requests_held 0.0" in figures
    page = client.get("/docs").text
    assert "POST /decide" in page
    assert "src=" not in page  # nothing is fetched from elsewhere
    described = client.get("/openapi.json").json()
    row = described["components"]["schemas"]["Rows"]["properties"]["rows"]["items"]
    assert set(row["properties"]) == {"age", "weight", "town"}
    assert "Ulm" in row["properties"]["town"]["description"]


def test_a_key_is_asked_for(classes):
    with TestClient(create_app(classes, "people", key="open sesame")) as client:
        assert client.get("/health").status_code == 200
        for sent in ({}, {"Authorization": "Bearer x"}, {"Authorization": "open sesame"}):
            assert client.get("/metrics", headers=sent).status_code == 401
        sent = {"Authorization": "Bearer open sesame"}
        assert client.post("/score", json={"rows": [ROW]}, headers=sent).status_code == 200


def test_a_body_may_be_so_large(classes):
    with TestClient(create_app(classes, "people", limits=Limits(body_bytes=500))) as client:
        assert answered(client, "/score", rows=[ROW])
        words, field = refused(client, "/score", 413, rows=[ROW] * 50)
        assert (words, field) == ("The body has more than 500 bytes.", "body")


def test_the_log_and_failures_hold_nothing_that_was_asked(classes, caplog, monkeypatch):
    app = create_app(classes, "people")

    def fail(*given, **more):
        raise RuntimeError(f"at {given}")

    with TestClient(app) as client, caplog.at_level(logging.INFO, "conjoin.serving"):
        answered(client, "/score", rows=[{"town": SECRET}])
        client.post(f"/{SECRET}?town={SECRET}", json={"town": SECRET})
        monkeypatch.setattr("conjoin.serving.row_api.log_proba", fail)
        response = client.post("/predict", json={"rows": [{"town": SECRET}]})
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "POST /score 200" in caplog.text
    assert "RuntimeError at" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in response.text


def scope(path="/score"):
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("test", 1),
        "server": ("test", 1),
    }


class Request:
    """One request to an application, whose client may leave."""

    def __init__(self, app, body):
        self.gone = asyncio.Event()
        self.parts = [{"type": "http.request", "body": json.dumps(body).encode()}]
        self.sent = []
        self.task = asyncio.ensure_future(app(scope(), self.receive, self.send))

    async def receive(self):
        if self.parts:
            return self.parts.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None


def test_places_are_bounded_and_free_again_when_a_client_leaves(classes, monkeypatch):
    app = create_app(classes, "people", limits=Limits(waiting=2, retry_seconds=7))
    going = threading.Event()
    entered = threading.Event()
    own = type(classes.model_).log_prob_raw
    asked = []

    def slow(model, encoded):
        asked.append(encoded.event.rows)
        entered.set()
        going.wait(30)
        return own(model, encoded)

    monkeypatch.setattr(type(classes.model_), "log_prob_raw", slow)

    async def main():
        first = Request(app, {"rows": [ROW]})
        await asyncio.to_thread(entered.wait, 30)
        second = Request(app, {"rows": [ROW] * 2})
        while app.gate.inside < 2:
            await asyncio.sleep(0.01)
        third = Request(app, {"rows": [ROW] * 3})
        await third.task
        assert third.status == 429
        assert (b"retry-after", b"7") in third.sent[0]["headers"]
        second.gone.set()
        await second.task
        assert app.gate.inside == 1
        assert second.sent == []
        fourth = Request(app, {"rows": [ROW] * 4})
        while app.gate.inside < 2:
            await asyncio.sleep(0.01)
        going.set()
        await asyncio.gather(first.task, fourth.task)
        assert (first.status, fourth.status) == (200, 200)
        assert app.gate.inside == 0

    asyncio.run(main())
    app.gate.close()
    assert asked == [1, 4]  # what nobody waits for is not computed


def test_a_slow_body_takes_no_place(classes):
    app = create_app(classes, "people", limits=Limits(body_seconds=0.05))

    async def main():
        request = Request(app, {})
        request.parts = []
        await request.task
        assert request.status == 408

    asyncio.run(main())
    app.gate.close()


def test_a_client_that_does_not_read_is_given_up(classes):
    app = create_app(classes, "people", limits=Limits(send_seconds=0.05))

    class Deaf(Request):
        async def send(self, message):
            self.sent.append(message)
            await asyncio.sleep(30)

    async def main():
        request = Deaf(app, {"rows": [ROW]})
        await asyncio.wait_for(request.task, 20)
        assert [message["type"] for message in request.sent] == ["http.response.start"]
        assert app.gate.inside == 0

    asyncio.run(main())
    app.gate.close()
    assert app.metrics.left._value.get() == 1


def test_several_targets_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"several targets, and serve and chat ask about one"):
        model_of(SimpleNamespace(model_=object()))


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 400, "send fewer rows"),
        (torch.OutOfMemoryError("CUDA out of memory"), 400, "send fewer rows"),
        (MemoryError(), 400, "send fewer rows"),
        (RuntimeError("shapes"), 500, "its log says where"),
        (TypeError(SECRET), 400, SECRET),
    ],
)
def test_what_fails_leaves_its_place_in_the_log(classes, caplog, monkeypatch, error, status, words):
    def fail(*given, **more):
        raise error

    app = create_app(classes, "people")
    monkeypatch.setattr("conjoin.serving.row_api.log_proba", fail)
    with TestClient(app) as client, caplog.at_level(logging.INFO, "conjoin.serving"):
        found, _ = refused(client, "/predict", status, rows=[ROW])
    assert words in found
    assert f"{type(error).__name__} at {__file__}:" in caplog.text
    assert SECRET not in caplog.text


def test_infinite_numbers_are_told_in_words():
    table = pd.DataFrame({"log_prob": [-np.inf, np.inf, np.nan, -1.5]})
    found = [row["log_prob"] for row in records(table)]
    assert found == ["-Infinity", "Infinity", None, -1.5]
    assert float(found[0]) == -math.inf


def test_models_of_pictures_are_not_served():
    pictures = np.random.default_rng(0).integers(0, 3, (60, 3, 3)).astype(np.uint8)
    model = JointDensity(family="naive_bayes").fit(pictures)
    with pytest.raises(ValueError, match="this one is of pictures"):
        create_app(model, "pictures")


def test_no_answer_holds_what_json_has_not(numbers):
    response = numbers.post("/decide", json={"rows": [{"weight": 1e300}], "false_alarm": 0.1})
    found = json.loads(response.text, parse_constant=lambda word: pytest.fail(word))
    assert found["rows"][0]["verdict"] == "unfamiliar"
    assert math.isfinite(found["rows"][0]["familiarity"])
