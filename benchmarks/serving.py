"""A server under load: many clients, some of which leave in mid-stream, and malformed requests.

    python benchmarks/serving.py --requests 1000 --clients 8 --fuzzed 10000

One server has a small network of texts, which answers the clients and half of the malformed
requests, another one a table, which answers the other half. Malformed bodies are made of the
fields that the server's own description names. Prints how requests ended, the median and the 95th
percentile of their seconds, the CPU seconds of the servers, and their memory, threads and files at
the beginning and after each quarter of the requests. Ends with an error where a server was at
fault (a status of 500 or more), named no field of what it refused, kept a place that nobody holds,
or held more memory at the end than after the third quarter.
"""

import argparse
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pandas as pd

from conjoin import JointClassifier, JointDensity
from conjoin.families.autoregressive.sequence import Sequence

TEXTS = [
    f"{who} {what} the {thing}, and {again} {what} the {thing} too"
    for who in ("the cat", "a dog", "my friend", "no one")
    for what in ("sees", "hears", "likes", "paints", "moves")
    for thing in ("door", "tree", "red ball", "old house", "moon")
    for again in ("she", "whoever stands by and looks at it for long enough")
]
CHAT = "/v1/chat/completions"
LEAVING = 0.15  # share of the requests whose client leaves in mid-stream
READ_BYTES = 10  # of a stream, by those who leave at once; others read some events
JSON = {"content-type": "application/json"}
QUARTERS = 4
MAX_GROWTH = 4 << 20  # bytes of a server's memory in the last quarter
CLOSING = 2  # connections that the server may be about to close when its files are counted
NESTED = 2_000  # brackets of a body that is nothing else

# what is asked where nothing is wrong, on each server by its paths
PROPER = {
    "texts": {
        CHAT: {
            "model": "texts",
            "messages": [{"role": "user", "content": "the cat"}],
            "max_tokens": 1,
        },
        "/v1/completions": {"model": "texts", "prompt": "a dog", "max_tokens": 1},
        "/v1/embeddings": {"model": "texts", "input": "no one"},
        "/score": {"rows": ["the cat sees"]},
        "/decide": {"rows": ["the cat sees"]},
        "/impute": {"rows": [None]},
        "/sample": {"n": 1},
    },
    "table": {
        "/predict": {"rows": [{"age": 40, "town": "A"}]},
        "/decide": {"rows": [{"age": 40, "town": "A"}], "max_error": 0.2},
        "/score": {"rows": [{"age": 40}]},
        "/impute": {"rows": [{"age": None, "town": "B"}]},
        "/sample": {"n": 1},
        "/counterfactual": {"rows": [{"age": 40, "town": "A"}], "n": 1},
    },
}


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--requests", type=int, default=1000)
    asked.add_argument("--clients", type=int, default=8)
    asked.add_argument("--fuzzed", type=int, default=10_000)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, model in (("texts", of_texts()), ("table", of_table())):
            model.save(Path(folder) / name)
            server = Server(name, Path(folder) / name)
            try:
                if name == "texts":
                    under_load(server, options.requests, options.clients)
                malformed(server, options.fuzzed // 2)
                print(f"{name}: {server.cpu():.1f} CPU seconds of the server")
            finally:
                server.end()


def of_texts():
    """A network that has hardly learned, so that its answers are long."""
    family = Sequence(steps=20, width=32, blocks=1)
    return JointDensity(family=family, types={"text": "text"}).fit(TEXTS)


def of_table():
    rng = np.random.default_rng(0)
    ill = rng.random(300) < 0.4
    X = pd.DataFrame(
        {"age": rng.normal(40 + 20 * ill, 6).round(), "town": rng.choice(list("AB"), 300)}
    )
    y = pd.Series(np.where(ill, "ill", "well"), name="state")
    return JointClassifier(family="naive_bayes", predictor=None).fit(X, y, calibration=0.4)


class Server:
    """A process that serves a model."""

    def __init__(self, name, folder):
        line = [sys.executable, "-m", "conjoin", "serve", str(folder), "--port", "0"]
        self.name = name
        self.process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.port = int(re.search(r":(\d+);", self.process.stdout.readline())[1])

    def end(self):
        self.process.terminate()
        self.process.wait()

    def told(self, path):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", path)
        found = connection.getresponse().read().decode()
        connection.close()
        return found

    def asked(self, path, raw, headers=None):
        """The status and the body of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", path, raw, JSON if headers is None else headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def held(self):
        """Places, once those are free whose clients have left."""
        deadline = time.monotonic() + 30
        while True:
            found = re.search(r"^conjoin_requests_held (\S+)", self.told("/metrics"), re.M)
            if not float(found[1]) or time.monotonic() > deadline:
                return float(found[1])
            time.sleep(0.1)

    def takes(self):
        """Bytes of memory, threads and open files of the process."""
        own = Path(f"/proc/{self.process.pid}")
        status = (own / "status").read_text(encoding="utf-8")
        memory = 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])
        return (
            memory,
            int(re.search(r"Threads:\s+(\d+)", status)[1]),
            len(list((own / "fd").iterdir())),
        )

    def cpu(self):
        """CPU seconds of the process."""
        told = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        fields = told.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100


def in_quarters(server, count, work):
    """``work`` on the numbers below ``count``, and what the server takes before and after each
    quarter of them; what it takes must have come to rest by the last one."""
    ends = np.linspace(0, count, QUARTERS + 1).astype(int)
    takes = [server.takes()]
    for start, end in itertools.pairwise(ends):
        work(range(start, end))
        assert not server.held(), "a place is held by nobody"
        takes.append(server.takes())
    for what, place, unit in (("MiB", 0, 1 << 20), ("threads", 1, 1), ("files", 2, 1)):
        print(f"  {what}: {', '.join(f'{each[place] / unit:.0f}' for each in takes)}")
    assert takes[-1][0] - takes[-2][0] < MAX_GROWTH, "memory grows to the end"
    assert takes[-1][2] <= takes[1][2] + CLOSING, "files stay open"


# ------------------------------------------------------------------------------------------- load


def under_load(server, requests, clients):
    """Many clients at once, some of which leave."""
    ended = Counter()
    seconds = []
    warm = iter(range(-2 * clients, 0))  # the first answers prepare what all need
    loaded(server, warm, Counter(), [])

    def work(numbers):
        shared = iter(numbers)
        threads = [
            threading.Thread(target=loaded, args=(server, shared, ended, seconds))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    print(f"{requests:,} requests by {clients} clients")
    in_quarters(server, requests, work)
    print(f"  {dict(sorted(ended.items()))}")
    middle, late = np.quantile(seconds, (0.5, 0.95))
    print(f"  seconds of a request: median {middle:.3f}, 95th percentile {late:.3f}")
    assert sum(ended.values()) == requests, "a client has failed"
    assert set(ended) <= {"200", "left", "left behind an event", "429"}, "the server was at fault"


def loaded(server, numbers, ended, seconds):
    """One client: a request for each number that no other client has taken."""
    for number in numbers:
        chance = random.Random(number)
        text = chance.choice(TEXTS)[: chance.randrange(4, 12)]
        body = {
            "model": "texts",
            "messages": [{"role": "user", "content": text}],
            "n": chance.choice([1, 1, 2, 4]),
            "stream": chance.random() < 0.5,
            "abstain": False,
        }
        began = time.monotonic()
        if chance.random() < LEAVING:
            ended[left(server, {**body, "stream": True}, chance)] += 1
            continue
        status, whole = server.asked(CHAT, json.dumps(body))
        if status == 200 and body["stream"]:
            assert whole.endswith(b"data: [DONE]\n\n")
        ended[str(status)] += 1
        seconds.append(time.monotonic() - began)


def left(server, body, chance):
    """A client that goes away, at once or behind an event in which something was written."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request("POST", CHAT, json.dumps(body), JSON)
        answer = connection.getresponse()
        if chance.random() < 0.5:
            answer.read(READ_BYTES)
            return "left"
        line = b"-"
        while line and b'"content": "' not in line.replace(b'"content": ""', b""):
            line = answer.readline()
        return "left behind an event"
    finally:
        connection.close()


# ------------------------------------------------------------------------------------- malformed


def malformed(server, count):
    """Bodies that are wrong somewhere."""
    paths = PROPER[server.name]
    fields = fields_of(json.loads(server.told("/openapi.json")), paths)
    ended = Counter()

    def work(numbers):
        for number in numbers:
            ended[fuzz(server, random.Random(number), paths, fields)] += 1

    fuzz(server, random.Random(-1), paths, fields)
    print(f"{count:,} malformed requests to {server.name}")
    in_quarters(server, count, work)
    print(f"  {dict(sorted(ended.items()))}")
    assert not [status for status in ended if status >= 500], "the server was at fault"


def fields_of(described, paths):
    """The fields of the body of each path, as the server describes itself."""
    out = {}
    for path in paths:
        content = described["paths"][path]["post"]["requestBody"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        out[path] = list(described["components"]["schemas"][name]["properties"])
    return out


def fuzz(server, chance, paths, fields):
    """The status of a request that is wrong somewhere; what refuses it names a field."""
    path = chance.choice(list(paths))
    body = json.loads(json.dumps(paths[path]))
    for _ in range(chance.randrange(1, 4)):
        if chance.random() < 0.1:
            body.pop(chance.choice([*body, "n"]), None)
        elif chance.random() < 0.3:
            inside(body, chance)
        else:
            body[chance.choice([*fields[path], "colour"])] = value(chance, 3)
    raw = json.dumps(body, ensure_ascii=chance.random() < 0.9).encode("utf-8", "surrogatepass")
    headers = dict(JSON)
    kind = chance.random()
    if kind < 0.25:
        place = chance.randrange(len(raw))
        raw = raw[:place] + bytes([chance.randrange(256)]) + raw[place + chance.randrange(3) :]
    elif kind < 0.27:
        raw = chance.choice([b"", b"null", b"[]", b'""', b"[" * NESTED, b'{"n":' * NESTED, b"\xff"])
    elif kind < 0.29:
        headers = {"content-type": chance.choice(["text/plain", "application/xml", "?"])}
    status, told = server.asked(path, raw, headers)
    if status >= 500:
        print(f"  {status}: {path} {raw!r:.300}", flush=True)
    if 400 <= status < 500:
        error = json.loads(told)["error"]
        known = {*fields[path], *keys_of(raw), "body"}
        named = error["param"] is not None and error["param"].split(".")[0] in known
        if not named or len(error["message"].splitlines()) != 1:
            raise AssertionError(f"{path} {raw!r:.300} is refused without its field: {error}")
    return status


def keys_of(raw):
    """Of a body, as far as it is an object."""
    try:
        return set(json.loads(raw))
    except (ValueError, TypeError, RecursionError):
        return set()


def inside(body, chance):
    """Change something in a list or an object of the body."""
    name = chance.choice(list(body)) if body else None
    held = body.get(name)
    while isinstance(held, list | dict) and held:
        place = chance.choice(range(len(held)) if isinstance(held, list) else list(held))
        if isinstance(held[place], list | dict) and chance.random() < 0.7:
            held = held[place]
            continue
        held[place] = value(chance, 2)
        return


def value(chance, depth):
    simple = [None, True, 0, -1, 2, 10**9, 10**40, 0.5, float("nan"), float("inf"), "", "a"]
    simple += ["\ud800", "\x00", "A", "user", "the cat", "age", "1e999", "a" * 5_000]
    if depth and chance.random() < 0.3:
        return [value(chance, depth - 1) for _ in range(chance.randrange(3))]
    if depth and chance.random() < 0.2:
        names = ["role", "content", "low", "high", "prefix", "age", "ill", "x", "type", "text"]
        return {chance.choice(names): value(chance, depth - 1) for _ in range(2)}
    return chance.choice(simple)


if __name__ == "__main__":
    main()
