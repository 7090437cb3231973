"""Who may import whom, and what no file may contain; read from the source, nothing is run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "plsc"

# From the bottom up: a file imports from its own layer and those below it.
LAYERS = [
    ["registry", "config", "runtime", "distributed", "settings", "schema", "suggest", "typecheck", "yaml_tree"]
    + ["checks", "plugins", "safe_pickle", "storage", "watchdog", "jobs", "sweep", "output", "replace", "signals"]
    + ["terminal", "text", "process_barrier", "source_digest", "strict_json", "arrays"],
    ["nn"],
    ["models", "tokenizers", "losses", "masking", "data", "optim"],
    ["tasks"],
    ["evaluation", "report"],
    ["checkpoint", "engine"],
    ["cli", "api", "__main__"],
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# These are read before the process is set up for Paddle.
NEED_PADDLE = ("distributed", "runtime", "safe_pickle", "storage", "arrays")
WITHOUT_PADDLE = [f"{part}.py" for part in LAYERS[0] if part not in NEED_PADDLE]
WITHOUT_PADDLE += ["cli/__init__.py", "cli/common.py", "cli/train.py", "cli/evaluation.py", "cli/listing.py"]
WITHOUT_PADDLE += ["cli/benchmark.py", "cli/plan.py", "cli/evaluate_frozen.py", "jobs.py"]
WITHOUT_PADDLE += ["api.py", "cli/predict.py", "cli/report.py", "cli/visualize.py"]
WITHOUT_PADDLE += ["cli/export.py", "cli/extract_features.py", "cli/sweep.py", "cli/doctor.py"]
WITHOUT_PADDLE += [f"report/{path.name}" for path in (PACKAGE / "report").glob("*.py")]

METHODS = re.compile(r"(?<![a-z])(cae|d?vae|dall_?e|beit|mae|simmim|moco|dino|vit)(?![a-z])", re.IGNORECASE)


def sources(folder=PACKAGE):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path):
    return str(path.relative_to(PACKAGE))


def part_of(path):
    """The folder or file below plsc that a file belongs to: `engine`, `registry`."""
    return path.relative_to(PACKAGE).parts[0].replace(".py", "")


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree):
    """Every module that a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the full name"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node):
    """`paddle.amp.auto_cast` of an attribute expression."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([getattr(node, "id", ""), *parts[::-1]])


def uses(tree, module):
    """Whether a file imports `module` or reaches it as an attribute."""
    attributes = (dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return any(name == module or name.startswith(module + ".") for name in [*imports(tree), *attributes])


every_file = pytest.mark.parametrize("path", sources(), ids=name_of)


@every_file
def test_no_file_imports_from_above(path):
    part = part_of(path)
    if part == "__init__":
        tree = parse(path)
        tree.body = [node for node in tree.body if ast.unparse(node).splitlines()[0] != "if TYPE_CHECKING:"]
        assert not [name for name in imports(tree) if name.startswith(("plsc", "paddle"))]
        return
    assert part in LEVEL, f"{part} belongs to no layer; add it to DESIGN and to LAYERS"
    for module in imports(parse(path)):
        below = module.split(".")[1] if module.startswith("plsc.") else None
        if below in LEVEL:
            assert LEVEL[below] <= LEVEL[part], f"{name_of(path)} imports {module}, which is above it"


@every_file
def test_packages_of_one_layer_do_not_know_each_other(path):
    """Models, tokenizers, losses, masking, data and optim meet in tasks and in the engine only."""
    part = part_of(path)
    if part in LAYERS[2]:
        others = {f"plsc.{other}" for other in LAYERS[2] if other != part}
        for module in imports(parse(path)):
            assert ".".join(module.split(".")[:2]) not in others, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", sources(PACKAGE / "tasks"), ids=name_of)
def test_tasks_do_not_import_each_other(path):
    if path.name != "__init__.py":
        tasks = {module.split(".")[2] for module in imports(parse(path)) if module.startswith("plsc.tasks.")}
        assert tasks <= {"base"}, f"{name_of(path)} imports the task {tasks - {'base'}}"


@every_file
def test_mixed_precision_is_in_one_file(path):
    if name_of(path) != "engine/precision.py":
        assert not uses(parse(path), "paddle.amp")


@every_file
def test_distribution_is_in_one_file(path):
    if name_of(path) != "distributed.py":
        assert not uses(parse(path), "paddle.distributed")


@pytest.mark.parametrize("name", WITHOUT_PADDLE)
def test_no_paddle_before_the_process_is_set_up(name):
    assert not uses(parse(PACKAGE / name), "paddle")


def test_runtime_imports_paddle_in_one_function_only():
    statements = parse(PACKAGE / "runtime.py").body
    assert [getattr(node, "name", "top") for node in statements if "paddle" in imports(node)] == ["import_paddle"]


def test_tools_use_the_command_line():
    for name in ("train.py", "eval.py", "benchmark.py"):
        modules = [module for module in imports(parse(ROOT / "tools" / name)) if module.startswith("plsc")]
        assert modules == ["plsc.cli", "plsc.cli.main"]


@every_file
def test_nothing_is_evaluated_and_nothing_unsafe_is_loaded(path):
    tree = parse(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = dotted(node.func) if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if (name_of(path), called) == ("signals.py", "os._exit"):
                continue  # Ctrl-C while an extension module is imported, out of which no exception comes
            assert called not in ("eval", "exec", "compile", "exit", "quit", "__import__", "os._exit"), called
            assert not called.endswith(".eval"), f"line {node.lineno}: use plsc.nn.utils.set_training"
            assert called not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"), called
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno}: star import"


def unpickles(tree):
    """What a file says that hands a pickle to an unpickler that runs it, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            said = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            numpy_load = called in ("np.load", "numpy.load") and said.get("allow_pickle") is not False
            if numpy_load or called in ("paddle.load", "torch.load", "paddle.jit.load"):
                yield f"line {node.lineno}: {called}"
        elif isinstance(node, ast.Attribute) and dotted(node) in UNPICKLERS:
            yield f"line {node.lineno}: {dotted(node)}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{name}" for name in names)]
            yield from (f"line {node.lineno}: {name}" for name in names if name in (*UNPICKLERS, *UNSAFE_MODULES))


UNPICKLERS = ("pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler", "pickle._load", "pickle._loads")
UNPICKLERS += ("numpy.load", "paddle.load", "torch.load")
JUST_WRITTEN = ("export.py", "paddle.jit.load")  # compares what it wrote a moment ago with what it should be
UNSAFE_MODULES = ("_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle")
UNSAFE_MODULES += ("paddle.vision.datasets",)  # reads CIFAR with pickle.load


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle\npickle.load(file)", ["line 2: pickle.load"]),
        ("import pickle\nread = pickle.loads", ["line 2: pickle.loads"]),
        ("from pickle import Unpickler as U", ["line 1: pickle.Unpickler"]),
        ("class Mine(pickle.Unpickler): pass", ["line 1: pickle.Unpickler"]),
        ("np.load(path)", ["line 1: np.load"]),
        ("np.load(path, allow_pickle=True)", ["line 1: np.load"]),
        ("np.load(path, allow_pickle=wanted)", ["line 1: np.load"]),
        ("np.load(path, allow_pickle=False)", []),
        ("paddle.load(path)", ["line 1: paddle.load"]),
        ("from paddle.vision import datasets", ["line 1: paddle.vision.datasets"]),
        ("import dill", ["line 1: dill"]),
        ("import pickle\npickle.dump(x, file)\npickle.PROTO", []),
    ],
)
def test_unpickling_is_found(code, found):
    assert sorted(set(unpickles(ast.parse(code)))) == found


@pytest.mark.parametrize("path", [*sources(), *sources(ROOT / "tools")], ids=lambda path: path.name)
def test_no_pickle_is_read_but_by_safe_pickle(path):
    found = [place for place in unpickles(parse(path)) if (path.name, place.split(": ")[1]) != JUST_WRITTEN]
    assert found == [], "use plsc.safe_pickle"


@every_file
def test_the_words_that_reviewers_search_for_are_absent(path):
    text = path.read_text(encoding="utf-8")
    assert "eval(" not in text
    assert "import *" not in text


@pytest.mark.parametrize("path", sources(PACKAGE / "engine") + sources(PACKAGE / "evaluation"), ids=name_of)
def test_engine_and_evaluation_know_no_method(path):
    """Not even in a comment."""
    assert METHODS.findall(path.read_text(encoding="utf-8")) == []


@every_file
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400
