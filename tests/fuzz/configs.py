"""Fuzzing of the config language: every input gives a tree or a ConfigError, without side effects."""

import contextlib
import copy
import functools
import sys
from pathlib import Path

from hypothesis import strategies as st

from plsc.config import plugins, schema
from plsc.config.files import config_root, load
from plsc.config.overrides import apply_override
from plsc.config.tree import ConfigError, ConfigMap, describe, dump, parse, to_plain

# Audit events that no config may cause; `open` counts if it is for writing.
_FORBIDDEN = {
    "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "shutil.rmtree",
    "os.remove", "os.rename", "os.mkdir", "ctypes.dlopen",
}  # fmt: skip
_watching = []


def _watch(event, arguments):
    if _watching and (event in _watching[0] or (event == "open" and set("wax+") & set(str(arguments[1])))):
        _watching.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_watch)


@contextlib.contextmanager
def nothing_happens(code=("exec", "compile")):
    """Context that fails if its body runs code, starts a program or writes files, by Python's audit events.

    Args:
        code: Events of running code; empty where annotations of components, which are trusted, are evaluated.
    """
    _watching.append({*_FORBIDDEN, *code})
    try:
        yield
    finally:
        seen = _watching[1:]
        _watching.clear()
    assert seen == [], "a config made this happen"


ATTACKS = [
    "!!python/object/apply:os.system [touch pwned]", "!!python/name:os.system", "!!python/module:os", "!!binary aGk=",
    "!!python/object/new:os.system [x]", "!!python/tuple [1]", "!!set {a}", "!!timestamp 2001-01-01", "!x y", "!!int x",
    "&a [*a]", "*a", "<<: *a", "__import__('os').system('touch pwned')", "${PATH}", "{{ 7 * 7 }}", "%s", "{0}",
    "_base_: ", "_base_: [a.yaml, b.yaml]", "_base_: ../../../../etc/passwd", "_base_: /dev/null", "_base_: \\0",
    "_base_: configs/quickstart/pretrain.yaml", "_delete_: true", "_delete_: 1", "name: ViT", "name: [ViT]",
    "x" * 5000, "9" * 5000, "[" * 300, "{a: " * 300, "- " * 300, "1e999", "-.inf", ".nan", "0x10", "1_0", "\ufeff",
    "\u2028", "\x85", "\x00", "\ud800", "\t", "---", "...", "%YAML 9.9", "? ", ": ", "|", ">-", "'", '"', "#", "@", "`",
]  # fmt: skip
KEYS = [
    "Global", "Task", "Model", "Optimizer", "DataLoader", "Train", "Eval", "dataset", "transforms", "loader", "name",
    "epochs", "encoder", "imports", "0", "-1",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(), st.text(max_size=5),
    st.sampled_from(["", "ViT", "AdamW", "mean", "true", "3e-3", "auto", "x" * 300]), st.sampled_from(KEYS),
)  # fmt: skip
NODE_KEYS = st.one_of(st.sampled_from([*KEYS, "_delete_", "_base_"]), st.text(max_size=5))
NODES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NODE_KEYS, inner, max_size=4), max_leaves=8
)
PIECES = st.one_of(
    st.sampled_from(ATTACKS), st.sampled_from(KEYS), st.text(max_size=4),
    st.sampled_from(["\n", "\n  ", "\n- ", ": ", ", ", "[", "]", "{", "}", "&a ", "*a", " ", "1", "true", "null"]),
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=25).map("".join)
PATHS = st.lists(st.one_of(st.sampled_from(KEYS), st.integers(-3, 3).map(str), st.text(max_size=3)), max_size=5)
OVERRIDES = st.one_of(
    st.builds(
        lambda start, path, sign, value: start + ".".join(path) + sign + value,
        st.sampled_from(["", "", "~"]), PATHS, st.sampled_from(["=", "+=", "", "=="]), TEXTS,
    ),
    TEXTS,
)  # fmt: skip
SEEDS = st.integers(0, 2**32 - 1)


@functools.lru_cache(maxsize=None)
def shipped():
    """All configs shipped with plsc, as plain data; this also registers all components."""
    plugins.load(ConfigMap())
    files = sorted(path for path in config_root().rglob("*.yaml") if "_base_" not in path.parts)
    return [to_plain(load(path)) for path in files]


def check_text(folder, text, overrides):
    """Check a file with any text, and any overrides."""
    path = Path(folder) / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with nothing_happens(), contextlib.suppress(ConfigError):
        read_back(load(path, overrides))


def read_back(tree):
    """Check that the printed form of an accepted tree parses to the same tree."""
    assert repr(to_plain(parse(dump(tree), "x.yaml"))) == repr(to_plain(tree))
    assert repr(to_plain(parse(describe(tree), "x.yaml") or {})) == repr(to_plain(tree))


def check_overrides(overrides):
    """Check any overrides of a shipped config."""
    tree = parse(dump(shipped()[0]), "x.yaml")
    with nothing_happens():
        for text in overrides:
            with contextlib.suppress(ConfigError):
                apply_override(tree, text)
    with nothing_happens(code=()), contextlib.suppress(ConfigError):
        schema.check(tree)


def check_mutant(number, changes):
    """Check a shipped config with nodes deleted, replaced, renamed, repeated or exchanged."""
    tree = copy.deepcopy(shipped()[number % len(shipped())])
    for kind, place, value in changes:
        mutate(tree, kind, place, value)
    with contextlib.suppress(ConfigError):
        config = parse(dump(tree), "mutant.yaml")
        with nothing_happens(code=()):
            schema.check(config)


def mutate(tree, kind, place, value):
    """Change one node of a tree, in place."""
    nodes = list(_nodes(tree))
    if not nodes:
        return
    parent, key = nodes[place % len(nodes)]
    if kind == "delete":
        del parent[key]
    elif kind == "replace":
        parent[key] = value
    elif kind == "exchange":
        other, other_key = nodes[place // 7 % len(nodes)]
        parent[key] = copy.deepcopy(other[other_key])
    elif kind == "wrap":
        parent[key] = [parent[key]] if place % 2 else {"name": parent[key]}
    elif kind == "add" and isinstance(parent[key], list):
        parent[key].append(value)
    elif kind == "add" and isinstance(parent[key], dict):
        parent[key][str(value)[:20]] = value
    elif kind == "rename" and isinstance(parent, dict):
        parent[str(value)[:20]] = parent.pop(key)
    elif kind == "retype":
        parent[key] = {"str": str, "list": lambda node: [node], "none": lambda _: None, "bool": bool}[
            ("str", "list", "none", "bool")[place % 4]
        ](parent[key])


def _nodes(tree):
    """Every (container, key) below a tree."""
    for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(child, (dict, list)):
            yield from _nodes(child)


KINDS = st.sampled_from(["delete", "replace", "exchange", "wrap", "add", "rename", "retype"])
CHANGES = st.lists(st.tuples(KINDS, SEEDS, NODES), min_size=1, max_size=4)
