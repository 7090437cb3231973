"""Rules about imports and contents of the source files; nothing is run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "plsc"

# From the bottom up: a file imports from its own layer and those below it.
LAYERS = [
    ["version", "errors", "distribution", "checks", "text", "strict_json", "terminal", "signals", "runtime"]
    + ["config", "distributed", "runs", "safe_pickle"],
    ["nn"],
    ["models", "tokenizers", "losses", "masking", "data", "optim"],
    ["tasks"],
    ["checkpoint", "costs", "evaluation"],
    ["engine"],
    ["inference", "report", "visualize", "planning", "benchmark", "diagnose", "sweep"],
    ["api", "cli", "__main__"],
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
LOWEST = ("checkpoint.files", "checkpoint.arrays", "checkpoint.reader")  # files on disk; they know no network

# Imported before the process is set up for Paddle, or by programs that never need it.
WITHOUT_PADDLE = ["config", "sweep", "runs/directory.py", "runs/reader.py", "report/svg.py", "report/page.py"]
WITHOUT_PADDLE += ["report/style.py", "report/sections.py", "report/measured.py", "cli", "api.py", "checks.py"]
WITHOUT_PADDLE += ["version.py", "errors.py", "text.py", "strict_json.py", "terminal.py", "signals.py"]
WITHOUT_PADDLE += ["distribution.py"]

METHODS = re.compile(r"(?<![a-z])(cae|d?vae|dall_?e|beit|mae|simmim|moco|dino|vit)(?![a-z])", re.IGNORECASE)


def sources(folder=PACKAGE):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path):
    return str(path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT))


def part_of(path):
    """The folder or file below plsc that a file belongs to: `engine`, `checks`."""
    return path.relative_to(PACKAGE).parts[0].replace(".py", "")


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


TREES = {path: parse(path) for path in [*sources(), *sources(ROOT / "tools")]}


def imports(tree):
    """Every module that a file imports, anywhere in the file."""
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
    """True if a file imports `module` or uses it as an attribute."""
    attributes = (dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return any(name == module or name.startswith(module + ".") for name in [*imports(tree), *attributes])


def checked(tree):
    """A copy of a tree without what only type checkers read."""
    body = [node for node in tree.body if ast.unparse(node).splitlines()[0] != "if TYPE_CHECKING:"]
    return ast.Module(body, [])


def test_no_file_imports_from_a_layer_above():
    wrong = []
    for path in sources():
        part = part_of(path)
        if part == "__init__":
            found = [name for name in imports(checked(TREES[path])) if name.startswith("paddle")]
            assert not found, "`import plsc` must not import paddle"
            continue
        assert part in LEVEL, f"{part} belongs to no layer; add it to LAYERS and to docs/architecture.md"
        for module in imports(checked(TREES[path])):
            below = module.split(".")[1] if module.startswith("plsc.") else None
            if module == "plsc.checkpoint" or module.startswith(tuple(f"plsc.{name}" for name in LOWEST)):
                continue
            if below in LEVEL and LEVEL[below] > LEVEL[part]:
                wrong.append(f"{name_of(path)} imports {module}")
    assert wrong == [], wrong


def test_packages_of_one_layer_do_not_import_each_other():
    """Models, tokenizers, losses, masking, data and optim meet in tasks and in the engine only."""
    wrong = []
    for path in sources():
        part = part_of(path)
        if part in LAYERS[2]:
            others = {f"plsc.{other}" for other in LAYERS[2] if other != part}
            wrong += [
                f"{name_of(path)} imports {m}" for m in imports(TREES[path]) if ".".join(m.split(".")[:2]) in others
            ]
    assert wrong == [], wrong


def test_tasks_do_not_import_each_other():
    for path in sources(PACKAGE / "tasks"):
        if path.name != "__init__.py":
            tasks = {module.split(".")[2] for module in imports(TREES[path]) if module.startswith("plsc.tasks.")}
            assert tasks <= {"base"}, f"{name_of(path)} imports the task {tasks - {'base'}}"


def test_mixed_precision_is_in_one_file():
    assert [name_of(path) for path in sources() if uses(TREES[path], "paddle.amp")] == ["nn/precision.py"]


def test_distributed_work_is_in_one_package():
    users = {part_of(path) for path in sources() if uses(TREES[path], "paddle.distributed")}
    assert users == {"distributed"}


def test_no_paddle_before_the_process_is_set_up():
    for name in WITHOUT_PADDLE:
        files = sources(PACKAGE / name) if (PACKAGE / name).is_dir() else [PACKAGE / name]
        for path in files:
            top = ast.Module([n for n in checked(TREES[path]).body if isinstance(n, (ast.Import, ast.ImportFrom))], [])
            assert not uses(top, "paddle"), f"{name_of(path)} imports paddle"


def test_runtime_imports_paddle_in_one_function_only():
    statements = parse(PACKAGE / "runtime.py").body
    assert [getattr(node, "name", "top") for node in statements if "paddle" in imports(node)] == ["import_paddle"]


def test_tools_use_the_command_line():
    for name in ("train.py", "eval.py", "export.py"):
        modules = [module for module in imports(TREES[ROOT / "tools" / name]) if module.startswith("plsc")]
        assert modules == ["plsc.cli", "plsc.cli.main"]


def test_no_module_shadows_the_standard_library():
    sys = pytest.importorskip("sys")
    names = getattr(sys, "stdlib_module_names", ())  # from Python 3.10 on
    assert [name_of(path) for path in sources() if path.stem in names and path.stem != "__main__"] == []


def test_nothing_is_evaluated_and_nothing_unsafe_is_loaded():
    banned = ("eval", "exec", "compile", "exit", "quit", "__import__", "os._exit")
    banned += ("yaml.load", "yaml.unsafe_load", "yaml.full_load")
    for path in sources():
        text = path.read_text(encoding="utf-8")
        assert "eval(" not in text, name_of(path)
        assert "import *" not in text, name_of(path)
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Call):
                called = dotted(node.func) if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                where = f"{name_of(path)}:{node.lineno}: {called}"
                if (name_of(path), called) == ("signals.py", "os._exit"):
                    continue  # Ctrl-C while an extension module is imported, which no exception can leave
                assert called not in banned, where
                assert not called.endswith(".eval"), f"{where}: use plsc.nn.utils.set_training"


def unpickles(tree):
    """Uses of functions that unpickle, each with its line."""
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
JUST_WRITTEN = ("export.py", "paddle.jit.load")  # compares a file that it has just written with the network
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


def test_only_safe_pickle_reads_pickles():
    for path, tree in TREES.items():
        found = [place for place in unpickles(tree) if (path.name, place.split(": ")[1]) != JUST_WRITTEN]
        assert found == [], f"{name_of(path)}: use plsc.safe_pickle"


def test_engine_and_evaluation_know_no_method():
    """Not even in a comment."""
    for path in [*sources(PACKAGE / "engine"), *sources(PACKAGE / "evaluation")]:
        assert METHODS.findall(path.read_text(encoding="utf-8")) == [], name_of(path)


def test_no_file_is_longer_than_400_lines():
    assert [name_of(path) for path in sources() if len(path.read_text(encoding="utf-8").splitlines()) >= 400] == []
