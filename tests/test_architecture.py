"""The house rules that a machine can hold us to. Each is a sentence in docs/architecture.md."""

import ast
import functools
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "conjoin"
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))
}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

# Folders, from the contract to the surface: a folder imports only from folders above it.
FOLDERS = (
    "core",
    "util",
    "marking",
    "chemistry",
    "components",
    "nets",
    "codecs",
    "datasets",
    "families",
    "joints",
    "predictors",
    "training",
    "calibration",
    "model",
    "fitting",
    "questions",
    "plot",
    "report",
    "estimators",
    "serving",
    "testing",
    "cli",
    "demos",
)
ROOT_MODULES = {"__init__", "__main__"}  # the package itself, and `python -m conjoin`
# Some are stricter still: (importer, what it must not import).
FORBIDDEN = {
    ("codecs", "components"): "codecs import the contract alone",
    ("codecs", "nets"): "codecs import the contract alone",
    ("families", "codecs"): "families never name a kind of data: they see a space",
    ("nets", "codecs"): "families never name a kind of data: they see a space",
    ("components", "codecs"): "families never name a kind of data: they see a space",
}
# Defaults that the contract offers to whoever has something better to say.
DEFAULTS = {
    "capabilities",
    "recipe",
    "in_precision",
    "advice",
    "streamed",
    "suited",
    "beside_blocks",
    "for_rows",
    "takes_class_alone",
    "notices",
    "status_of_draws",
    "alternatives",
    "unfold_given",
    "is_told",
    "stage",
    "stages",
    "paces",
    "shardable",
    "begin",
    "end",
    "averaged",
    "shrink",
    # of codecs
    "beyond_seen",
    "drawn_outside",
    "confined",
    "far_away",
    "fill_drawn",
    "columns",
    "labels",
    "columnwise",
    "parts",
    "gaps",
    "flagged",
    "unlike",
    "unseen_words",
    "behind",
    "after",
    "implied",
    "unaskable",
    "broken",
    "broaden",
    "broadens",
    "unread",
    "told",
    "missing_columns",
    "x_words",
    "too_large",
    "columns_in",
    "decode_column",
    "beyond",
    "ranges",
    "settle",
    "decoded",
    "framed",
    "unframed",
    "drawn",
    "recount",
    "surveyed",
    "evidence",
    "bound",
    "oddest",
    "oddest_pairs",
    "opens",
    "structures",
    "structure",
    "wording",
    "several_ways",
    "alone",
    "recognises",
    "in_folder",
    "located",
    "as_written",
    # densities of strings: what reads and writes them, and what a fit may go on from
    "reader_of",
    "network_reader",
    "writer_of",
    "string_in",
    "numbers_of",
    "pairs_of_points",
    "go_on_from",
    # joints: what each is made of
    "about",
    "unweighted",
    "weighted",
    "separate_predictor",
    "source_of_features",
    "shared_head",
    "label_prior",
    "_log_label_given",
    # predictors and how they are learned
    "describe",
    "scores_of_frame",
    "features_head",
    "tuned",
    "tried",
    "for_few_labels",
    "guess",
    "paced",
    "by_folds",
    "spread",
    "made",
    "convert",
    "table",
}
# What a kind of data is: only these folders ask for it. Others ask for what they need to know
# (``has_mass``, ``columnar``, ``columnwise``, ``has_classes``, ...).
ASKED_OF_DATA = {"kind", "layout", "grid", "pixels"}
MAY_ASK = ("core", "codecs", "families", "nets")
# Words that are not of data: numpy's of a dtype, the values of y that a model's state keeps, the
# lines of a figure, and the word that an object of one's own is saved under.
NOT_OF_DATA = ("dtype.kind", "state.grid", "ax.grid", "self.kind")
# The registries by name; the first three are of the objects of their own folder.
BY_NAME = {
    "joints/__init__.py": {"kind"},  # joints, by the words that they are saved under
    "model/targets.py": {"kind"},  # targets, by the tasks of a fit
    "predictors/__init__.py": {"kind"},  # scorers, by the words that they are saved under
    "cli/kinds.py": {"kind"},  # who reads and writes a kind of data
    "report/kinds.py": {"kind"},  # what a report shows of a kind of data
    "testing/block_spaces.py": {"layout"},  # what a layout may be asked, by brute force
}
# Neither joints nor questions name a family; they may ask the registry.
BLIND_TO_FAMILIES = {"joints", "calibration", "questions"}
# scikit-learn's own protocol; nn.Module's never shows, because it is not of this package.
SKLEARN = {"fit", "predict", "score", "get_params", "set_params", "transform", "fit_transform"}


def text_of(path):
    return path.read_text(encoding="utf-8")


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", [pytest.param(path, id=name(path)) for path in paths])


every_file = each(TREES)


@functools.cache
def nodes(tree):
    return list(ast.walk(tree))


@functools.cache
def calls(tree):
    return [node for node in nodes(tree) if isinstance(node, ast.Call)]


@functools.cache
def spelled(node):
    """`a.b.c` of a name or attribute, else ''."""
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""


# --------------------------------------------------------------------------------------------- size


@functools.cache
def functions(path):
    return [node for node in nodes(TREES[path]) if isinstance(node, FUNCTION)]


def lines(function):
    """From `def` to the end, without the docstring."""
    first = function.body[0]
    words = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - words


@every_file
def test_lines_have_at_most_100_characters(path):
    assert [n for n, line in enumerate(text_of(path).splitlines(), 1) if len(line) > 100] == []


@every_file
def test_one_assignment_a_line(path):
    """``a, b = f()`` unpacks one value; ``a, b = x, y`` is two statements, unless they depend on
    each other (``a, b = b, a``)."""
    found = [node for node in nodes(TREES[path]) if isinstance(node, ast.Assign)]
    assert [node.lineno for node in found if is_two_statements(node)] == []


def is_two_statements(node):
    targets = node.targets[0]
    if not isinstance(targets, ast.Tuple) or not isinstance(node.value, ast.Tuple):
        return False
    names, values = targets.elts, node.value.elts
    if len(names) != len(values) or any(isinstance(e, ast.Starred) for e in (*names, *values)):
        return False
    depends = any(
        re.search(rf"(?<![\w.]){re.escape(ast.unparse(name))}(?!\w)", ast.unparse(value))
        for place, name in enumerate(names)
        for value in values[place + 1 :]
    )
    return not depends


def test_functions_are_short():
    found = {
        f"{name(path)}:{each.name}:{each.lineno}": each
        for path in TREES
        for each in functions(path)
    }
    sizes = sorted(map(lines, found.values()))
    longest = [place for place, function in found.items() if lines(function) > 80]
    assert statistics.median(sizes) <= 8
    assert sizes[int(0.9 * len(sizes))] <= 35
    assert longest == []


# ------------------------------------------------------------------------------------------ imports


def part(module):
    """The folder of the package that a dotted name belongs to."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 and (PACKAGE / pieces[1]).is_dir() else "__init__"


@functools.cache
def imports(path):
    """(dotted name, whether it waits for a call) of each import of this package; imports for type
    checkers are left out."""
    found = []
    ahead = [(TREES[path], False)]
    while ahead:
        node, late = ahead.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [(module, late) for module in imported(node, path)]
        late = late or isinstance(node, FUNCTION)
        ahead += [(child, late) for child in ast.iter_child_nodes(node)]
    return found


def imported(node, path):
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        assert node.level == 0, f"{name(path)}: imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    return [
        module
        for module in names
        if module.split(".")[0] == "conjoin" and module != "conjoin.__version__"
    ]


def own_part(path):
    top = path.relative_to(PACKAGE).parts[0]
    return top.removesuffix(".py")


def test_every_folder_has_its_place():
    found = {own_part(path) for path in TREES} - ROOT_MODULES
    assert found <= set(FOLDERS), f"no place in FOLDERS: {found - set(FOLDERS)}"


@every_file
def test_imports_go_downward(path):
    own = own_part(path)
    if own in ROOT_MODULES:
        return  # their names are loaded when they are asked for
    for module, _ in imports(path):
        other = part(module)
        if other in (own, "__init__") and (other == own or own in ("cli", "demos")):
            continue
        assert other in FOLDERS, f"{name(path)} imports {module} from the package itself"
        assert FOLDERS.index(other) <= FOLDERS.index(own), f"{name(path)} imports {module}"
        assert (own, other) not in FORBIDDEN, f"{name(path)}: {FORBIDDEN[own, other]}"


def module_of(path):
    dotted = ".".join(("conjoin", *path.relative_to(PACKAGE).with_suffix("").parts))
    return dotted.removesuffix(".__init__")


MODULES = {module_of(path): path for path in TREES}


@functools.cache
def needs(path, late):
    """The modules that a file imports at its top, or when a function is called."""
    found = {(module, when) for module, when in imports(path)}
    homes = {(module if module in MODULES else module.rpartition(".")[0], w) for module, w in found}
    return {module for module, when in homes if when == late and module in MODULES}


@functools.cache
def reached(module):
    """Every module that importing this one loads."""
    seen = set()
    ahead = [module]
    while ahead:
        for other in needs(MODULES[ahead.pop()], late=False) - seen:
            seen.add(other)
            ahead.append(other)
    return seen


@every_file
def test_no_import_waits_only_to_break_a_circle(path):
    """An import inside a function saves time for whoever does not call it; it hides no circle."""
    own = module_of(path)
    assert [module for module in needs(path, late=True) if own in reached(module)] == []


@each([path for path in TREES if own_part(path) in BLIND_TO_FAMILIES])
def test_questions_and_joints_never_name_a_family(path):
    named = [
        module
        for module, _ in imports(path)
        if module.startswith("conjoin.families.") and part_is_package(module)
    ]
    assert named == []


def part_is_package(module):
    """Whether a name below conjoin.families is a module rather than a name of the registry."""
    home = PACKAGE / "families" / module.split(".")[2]
    return home.is_dir() or home.with_suffix(".py").is_file()


HEAVY = (
    "bad = sorted({'torch', 'pandas', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)); "
    "assert not bad, bad"
)
COMMAND = f"""
import sys, runpy
sys.argv = ["conjoin", {{argument!r}}]
try:
    runpy.run_module("conjoin", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
{HEAVY}
"""


def quick(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_conjoin_is_light():
    quick(f"import sys, conjoin; {HEAVY}")


@pytest.mark.parametrize("argument", ["--help", "families"])
def test_the_command_line_answers_at_once(argument):
    quick(COMMAND.replace("{argument!r}", repr(argument)))


# -------------------------------------------------------------------------------------------- style


@every_file
def test_no_hasattr(path):
    assert [call.lineno for call in calls(TREES[path]) if spelled(call.func) == "hasattr"] == []


@every_file
def test_no_pickle(path):
    tree = TREES[path]
    modules = {
        alias.name for node in nodes(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    modules |= {
        node.module for node in nodes(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert not {"pickle", "cloudpickle", "dill", "shelve", "marshal"} & {
        module.split(".")[0] for module in modules
    }
    names = {spelled(call.func) for call in calls(tree)}
    assert not {"torch.load", "torch.save", "joblib.dump", "joblib.load"} & names
    assert not {called.split(".")[-1] for called in names} & {"read_pickle", "to_pickle"}
    allowed = [
        key
        for call in calls(tree)
        for key in call.keywords
        if key.arg == "allow_pickle" and ast.unparse(key.value) != "False"
    ]
    assert allowed == []


@each([path for path in TREES if name(path) != "core/random.py"])
def test_the_global_generator_is_left_alone(path):
    seeding = {
        "torch.manual_seed",
        "torch.seed",
        "torch.random.manual_seed",
        "np.random.seed",
        "numpy.random.seed",
        "random.seed",
    }
    assert [
        spelled(call.func) for call in calls(TREES[path]) if spelled(call.func) in seeding
    ] == []


@functools.cache
def classes():
    return {
        node.name: (path, node)
        for path, tree in TREES.items()
        for node in nodes(tree)
        if isinstance(node, ast.ClassDef)
    }


def methods(node):
    return {item.name: item for item in node.body if isinstance(item, FUNCTION)}


def ancestors(node, known):
    """Classes of this package above one, nearest first."""
    for base in node.bases:
        plain = spelled(base.value if isinstance(base, ast.Subscript) else base).split(".")[-1]
        if plain in known:
            yield known[plain][1]
            yield from ancestors(known[plain][1], known)


def may_be_overridden(method, owner):
    decorators = {spelled(decorator).split(".")[-1] for decorator in method.decorator_list}
    protocol = any("Protocol" in ast.unparse(base) for base in owner.bases)
    hook = method.name.startswith("_") or (owner.name == "Density" and method.name == "build")
    return (
        "abstractmethod" in decorators
        or protocol
        or ("final" not in decorators and (hook or method.name in SKLEARN | DEFAULTS))
    )


@each(
    [
        path
        for path, tree in TREES.items()
        if any(isinstance(node, ast.ClassDef) for node in nodes(tree))
    ]
)
def test_abstract_or_final(path):
    known = classes()
    wrong = [
        f"{node.name}.{method} overrides {above.name}.{method}"
        for node in nodes(TREES[path])
        if isinstance(node, ast.ClassDef)
        for above in ancestors(node, known)
        for method in methods(node).keys() & methods(above).keys()
        if not may_be_overridden(methods(above)[method], above)
    ]
    assert wrong == []


@each(list(TREES))
def test_no_isinstance_over_families_joints_codecs_or_predictors(path):
    closed = {"families", "joints", "codecs", "predictors"} - {own_part(path)}
    theirs = {
        alias.asname or alias.name
        for node in nodes(TREES[path])
        if isinstance(node, ast.ImportFrom) and part(f"{node.module}.{alias_of(node)}") in closed
        for alias in node.names
    }
    tests = [
        call for call in calls(TREES[path]) if spelled(call.func) in ("isinstance", "issubclass")
    ]
    named = {spelled(node).split(".")[0] for call in tests for node in ast.walk(call.args[1])}
    assert not named & theirs


def asks_of_data(tree):
    """(line, attribute, how it is spelled) wherever one of these attributes is read."""
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and node.attr in ASKED_OF_DATA:
            yield node.lineno, node.attr, ast.unparse(node)
        if isinstance(node, ast.Call) and spelled(node.func) in ("getattr", "attrgetter"):
            for each in node.args:
                if isinstance(each, ast.Constant) and each.value in ASKED_OF_DATA:
                    yield node.lineno, each.value, ast.unparse(node)


@each([path for path in TREES if own_part(path) not in MAY_ASK])
def test_nobody_outside_asks_what_kind_of_data_it_is(path):
    allowed = BY_NAME.get(name(path), set())
    found = [
        f"{line}: {words}"
        for line, asked, words in asks_of_data(TREES[path])
        if asked not in allowed and not words.endswith(NOT_OF_DATA)
    ]
    assert found == []


@each([path for path in TREES if own_part(path) not in MAY_ASK])
def test_nobody_outside_compares_kinds_or_tells_targets_apart(path):
    """Also not where names are looked up, and not by the class of a target."""
    compared = [
        node.lineno
        for node in nodes(TREES[path])
        if isinstance(node, (ast.Compare, ast.Match))
        for part_of in ast.walk(node)
        if isinstance(part_of, ast.Attribute)
        and part_of.attr in ASKED_OF_DATA
        and not ast.unparse(part_of).endswith(NOT_OF_DATA[:3])
        and not is_look_up(node)
    ]
    tests = [call for call in calls(TREES[path]) if spelled(call.func) == "isinstance"]
    targets = {"Classes", "Number", "Target"} if own_part(path) != "model" else set()
    compared += [
        call.lineno
        for call in tests
        if targets & {spelled(node).split(".")[-1] for node in ast.walk(call.args[1])}
    ]
    assert compared == []


def is_look_up(node):
    """``x.kind in KINDS``: whether a registry has it."""
    return (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], (ast.In, ast.NotIn))
        and spelled(node.comparators[0]).isupper()
    )


def alias_of(node):
    return node.names[0].name


def test_long_tests_are_there():
    """slow.txt names functions that its files have."""
    lines = text_of(ROOT / "tests" / "slow.txt").splitlines()[1:]
    assert lines == sorted(set(lines))
    gone = [
        line
        for line in lines
        for file, name in [line.split("[")[0].split("::")]
        if f"def {name}(" not in text_of(ROOT / file)
    ]
    assert gone == []


@every_file
def test_public_modules_say_what_is_public(path):
    if path.stem.startswith("_") and path.stem != "__init__":
        return
    body = [
        node
        for node in TREES[path].body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert not body or any(
        isinstance(node, ast.Assign) and spelled(node.targets[0]) == "__all__" for node in body
    )


@every_file
def test_every_module_opens_with_words(path):
    assert ast.get_docstring(TREES[path])


@each([path for path in TREES if own_part(path) == "families" and path.stem != "__init__"])
def test_a_family_opens_with_formula_paper_units_legend_and_doctest(path):
    words = ast.get_docstring(TREES[path]) or ""
    assert re.search(r"^ {4}\S", words, re.MULTILINE), "an indented formula"
    assert re.search(r"\((18|19|20)\d\d[a-z]?\)", words), "a paper, with its year in parentheses"
    assert re.search(r"\bnats?\b", words, re.IGNORECASE), "the unit, nats"
    assert "Shape letters" in words, "a legend of shape letters"
    assert ">>>" in words, "a doctest"


@each([path for path in TREES if own_part(path) not in ("cli", "demos", "report")])
def test_the_library_names_no_option_of_the_command_line(path):
    """It names what Python takes; the command line puts its own words in place (cli/words.py)."""
    tree = TREES[path]
    docs = {id(node.value) for node in nodes(tree) if isinstance(node, ast.Expr)}
    flags = [
        node.lineno
        for node in nodes(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        if re.search(r"(?<![\w-])--[a-z]", node.value)
    ]
    assert flags == []


@every_file
def test_nothing_is_left_to_do(path):
    assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", path.read_text(encoding="utf-8")) == []
    stubs = [function.name for function in functions(path) if is_stub(function)]
    assert stubs == [] or own_part(path) in ("core", "joints"), (
        "hooks that raise belong to the contract"
    )


def is_stub(function):
    """A body of `pass` or of NotImplementedError alone."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (
        len(body) == 1
        and re.match(r"pass$|raise NotImplementedError", ast.unparse(body[0])) is not None
    )


def texts():
    """Every text file that is shipped."""
    kinds = {
        ".py",
        ".md",
        ".toml",
        ".txt",
        ".yml",
        ".yaml",
        ".j2",
        ".css",
        ".js",
        ".json",
        ".ipynb",
        ".sh",
    }
    folders = ("src", "tests", "docs", "examples", "benchmarks", ".ci")
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    found = [path for path in found if path.suffix in kinds or path.name in ("Makefile", "run")]
    return [
        path for path in found if not {"__pycache__", ".venv"} & set(path.parts[len(ROOT.parts) :])
    ]


def test_no_path_of_one_machine():
    pattern = re.compile(
        r"(?<![\w.:/~-])(?:/(?:home|root|Users|work|opt|mnt|tmp)/\w|[A-Z]:\\\\?[A-Z]\w)"
    )
    found = {
        path.relative_to(ROOT).as_posix(): pattern.findall(
            path.read_text(encoding="utf-8", errors="ignore")
        )
        for path in texts()
    }
    assert {path: hits for path, hits in found.items() if hits} == {}


# What a distribution is imported as, where that differs from its name.
IMPORTED_AS = {
    "pillow": "PIL",
    "nvidia-ml-py": "pynvml",
    "prometheus-client": "prometheus_client",
    "c2pa-python": "c2pa",
}


def test_every_extra_has_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in TREES)
    for extra, needs in project["optional-dependencies"].items():
        names = [re.split(r"[><=\[]", each)[0] for each in needs]
        unused = [
            name
            for name in names
            if not re.search(rf"^\s*(from|import) {IMPORTED_AS.get(name, name)}\b", text, re.M)
        ]
        assert extra == "dev" or not unused, f"the extra {extra!r} asks for {unused} in vain"
