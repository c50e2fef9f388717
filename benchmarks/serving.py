"""A server under load: many clients, some of which leave in mid-stream, and malformed requests.

    python benchmarks/serving.py --requests 1000 --clients 8 --fuzzed 10000

Prints how requests ended, the median and the 95th percentile of their seconds, the server's memory
at the beginning and at the end, and its CPU seconds. Ends with an error where the server was at
fault (a status of 500 or more), or kept a place that nobody holds.
"""

import argparse
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

from conjoin import JointDensity

TEXTS = [
    f"{who} {what} the {thing}"
    for who in ("the cat", "a dog", "my friend", "no one")
    for what in ("sees", "hears", "likes", "paints", "moves")
    for thing in ("door", "tree", "red ball", "old house", "moon")
]
CHAT = "/v1/chat/completions"
LEAVING = 0.15  # share of the requests whose client leaves in mid-stream
JSON = {"content-type": "application/json"}
WORDS = [
    "model",
    "messages",
    "n",
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "seed",
    "rows",
    "x",
]


def main():
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--requests", type=int, default=1000)
    asked.add_argument("--clients", type=int, default=8)
    asked.add_argument("--fuzzed", type=int, default=1000)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "texts")
        JointDensity(family="ngram", types={"text": "text"}).fit(TEXTS).save(model)
        server, port = started(model)
        try:
            loaded(port, 8, 1, [0], Counter(), [])  # the first answers prepare what all need
            report(server, port, options)
        finally:
            server.terminate()
            server.wait()


def started(model):
    line = [sys.executable, "-m", "conjoin", "serve", model, "--port", "0"]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return server, int(re.search(r":(\d+);", server.stdout.readline())[1])


def report(server, port, options):
    before = memory(server)
    ended = Counter()
    seconds = []
    count = [0]
    clients = [
        threading.Thread(target=loaded, args=(port, options.requests, seed, count, ended, seconds))
        for seed in range(options.clients)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    print(
        f"{options.requests:,} requests by {options.clients} clients: {dict(sorted(ended.items()))}"
    )
    middle, late = np.quantile(seconds, (0.5, 0.95))
    print(f"seconds of a request: median {middle:.3f}, 95th percentile {late:.3f}")
    fuzzed = Counter(fuzz(port, random.Random(seed)) for seed in range(options.fuzzed))
    print(f"{options.fuzzed:,} malformed requests: {dict(sorted(fuzzed.items()))}")
    print(f"memory {before / 2**20:.0f} MiB before, {memory(server) / 2**20:.0f} MiB after")
    print(f"CPU seconds of the server: {cpu(server):.1f}")
    deadline = time.monotonic() + 30
    while held(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not held(port), "a place is held by nobody"
    assert not [word for word in (*ended, *fuzzed) if word[0] == "5"], "the server was at fault"


def loaded(port, most, seed, count, ended, seconds):
    """One client: requests until ``most`` were made by all."""
    chance = random.Random(seed)
    while count[0] < most:
        count[0] += 1
        text = chance.choice(TEXTS)[: chance.randrange(4, 12)]
        body = {
            "model": "texts",
            "messages": [{"role": "user", "content": text}],
            "n": chance.choice([1, 1, 2, 4]),
            "stream": chance.random() < 0.5,
        }
        began = time.monotonic()
        leaves = chance.random() < LEAVING
        ended[answered(port, {**body, "stream": True} if leaves else body, leaves)] += 1
        if not leaves:
            seconds.append(time.monotonic() - began)


def answered(port, body, leaves):
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", CHAT, json.dumps(body), JSON)
        answer = connection.getresponse()
        if leaves:
            answer.read(10)
            return "left"
        whole = answer.read()
        if answer.status == 200 and body["stream"]:
            assert whole.endswith(b"data: [DONE]\n\n")
        return str(answer.status)
    finally:
        connection.close()


def fuzz(port, chance):
    """The status of a request that is wrong somewhere."""
    body = {"model": "texts", "messages": [{"role": "user", "content": "the cat"}], "max_tokens": 1}
    for _ in range(chance.randrange(1, 4)):
        body[chance.choice(WORDS)] = value(chance, 3)
    raw = json.dumps(body).encode()
    if chance.random() < 0.3:
        place = chance.randrange(len(raw))
        raw = raw[:place] + bytes([chance.randrange(256)]) + raw[place + chance.randrange(3) :]
    path = chance.choice([CHAT, "/v1/completions", "/score", "/sample", "/decide", "/impute"])
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, raw, JSON)
        answer = connection.getresponse()
        told = answer.read()
        if answer.status == 400:
            assert len(json.loads(told)["error"]["message"].splitlines()) == 1
        return str(answer.status)
    finally:
        connection.close()


def value(chance, depth):
    simple = [None, True, 0, -1, 10**9, 10**40, 0.5, float("nan"), float("inf"), "", "a", "\ud800"]
    if depth and chance.random() < 0.3:
        return [value(chance, depth - 1) for _ in range(chance.randrange(3))]
    if depth and chance.random() < 0.2:
        return {chance.choice(["role", "content", "low", "x"]): value(chance, depth - 1)}
    return chance.choice(simple)


def held(port):
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    figures = connection.getresponse().read().decode()
    connection.close()
    return float(re.search(r"^conjoin_requests_held (\S+)", figures, re.M)[1])


def memory(server):
    """Bytes that the process holds."""
    told = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", told)[1])


def cpu(server):
    """CPU seconds of the process."""
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()
