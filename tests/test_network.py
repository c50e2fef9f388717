"""No network call that the user did not ask for: an audit hook sees every socket of a whole
round.
"""

import subprocess
import sys

ROUND = """
import sys

seen = []


def watch(event, arguments):
    lookups = ("socket.getaddrinfo", "socket.gethostbyname")
    if event in ("socket.connect", "socket.sendto", "urllib.Request", *lookups):
        seen.append((event, str(arguments)))


sys.addaudithook(watch)

import conjoin
from sklearn.datasets import load_iris

X, y = load_iris(return_X_y=True, as_frame=True)
model = conjoin.JointClassifier(family="naive_bayes", predictor=None, random_state=0).fit(X, y)
model.decide(X[:5], false_alarm=0.2, max_error=0.2)
model.save("iris-model")
conjoin.load("iris-model").predict(X[:5])
assert not seen, seen
"""


def run(code, folder):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_a_round_of_fit_decide_save_load_opens_no_socket(tmp_path):
    done = run(ROUND, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_watch_sees_a_socket(tmp_path):
    watch_only = ROUND.split("import conjoin")[0]
    done = run(
        watch_only + "import socket\nsocket.getaddrinfo('localhost', 80)\nassert not seen, seen",
        tmp_path,
    )
    assert "socket.getaddrinfo" in done.stderr
