"""Malicious pickles are rejected, or read without executing code.

Python's own unpickler executes their code; the tests check this first.
"""

import contextlib
import copyreg
import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from plsc.safe_pickle import Unknown, UnsafeFileError, read_pickle, read_state_file


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(name, *arguments):
    """Return the operations that call `module name`, given the operations that build its arguments."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def stacked(module, name):
    return text(module) + text(name) + b"\x93"


def code_runners(marker):
    """Return by name a pickle that would create the file `marker`, with the message of the error or the value read."""
    shell, python = text(f"touch {marker}"), text(f"open({str(marker)!r}, 'w').close()")
    system = call("builtins getattr", call("builtins __import__", text("os")), text("system"))
    methods = call("operator methodcaller", text("system"), shell)
    functions = b"]" + methods + b"a"
    state = text("__setstate__") + b"cposix\nsystem\n"
    return {
        "os.system": (call("posix system", shell), "contains posix.system"),
        "eval": (call("builtins eval", python), "contains builtins.eval"),
        "exec": (call("builtins exec", python), "contains builtins.exec"),
        "python 2": (call("__builtin__ eval", python), "contains __builtin__.eval"),
        "subprocess": (call("subprocess call", b"](" + text("touch") + text(str(marker)) + b"e"), "subprocess.call"),
        "open": (call("io open", text(str(marker)), text("w")), "contains io.open"),
        "getattr chain": (system + b"(" + shell + b"tR", "contains builtins.getattr"),
        "methodcaller": (methods + b"(" + call("builtins __import__", text("os")) + b"tR", "operator.methodcaller"),
        "map over functions": (
            call("builtins list", call("builtins map", methods, b"]" + call("builtins __import__", text("os")) + b"a")),
            "contains builtins.map",
        ),
        "functools.partial": (call("functools partial", b"cposix\nsystem\n", shell) + b")R", "functools.partial"),
        "code object": (call("builtins compile", python, text("x"), text("exec")), "contains builtins.compile"),
        "inst": (b"(" + shell + b"iposix\nsystem\n", "the operation INST"),
        "obj": (b"(cposix\nsystem\n" + shell + b"o", "the operation OBJ"),
        "new object": (b"\x80\x02csubprocess\nPopen\n(](" + text("touch") + text(str(marker)) + b"et\x81", "Popen"),
        "new object with keywords": (
            b"\x80\x04" + stacked("subprocess", "Popen") + b")}" + text("args") + b"](" + text("touch")
            + text(str(marker)) + b"es\x92",
            "contains subprocess.Popen",
        ),
        "dotted name": (
            b"\x80\x04" + stacked("plsc.runtime", "os.system") + b"(" + shell + b"tR", "contains plsc.runtime.os.system"
        ),
        "dotted name of what is known": (
            b"\x80\x04" + stacked("argparse", "_sys.modules") + text("os") + b"0", "contains argparse._sys.modules"
        ),
        "state that becomes a method": (
            call("argparse Namespace") + b"}" + state + b"sb" + shell + b"b", "not a complete file of weights"
        ),
        "among weights": (b"}" + text("w") + call("posix system", shell) + b"s", {"w": "posix.system"}),
        "function list": (functions, {0: "operator.methodcaller"}),
    }  # fmt: skip


# By themselves: an object that is made without its constructor, or that nobody calls.
HARMLESS = ("code object", "dotted name of what is known", "function list", "new object", "new object with keywords")


@pytest.mark.parametrize("name", code_runners("x"))
@pytest.mark.parametrize("ending", [".pd", ".pth"])
def test_no_code_is_executed(tmp_path, name, ending):
    marker, path = tmp_path / "marker", tmp_path / f"evil{ending}"
    content, message = code_runners(marker)[name]
    content += b"."
    if name not in HARMLESS:
        with contextlib.suppress(Exception):
            pickle.loads(content)
        assert marker.exists(), "this pickle is not as evil as it should be"
        marker.unlink()
    if ending == ".pth":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    else:
        path.write_bytes(content)
    if isinstance(message, dict):
        found = read_state_file(path)
        for key, name in message.items():
            assert type(found[key]) is Unknown and found[key].name == name
    else:
        with pytest.raises(UnsafeFileError, match=rf"evil{ending}: .*{message}"):
            read_state_file(path)
    assert not marker.exists()


def test_a_registered_extension_is_not_called(tmp_path):
    marker = tmp_path / "marker"
    copyreg.add_extension("posix", "system", 0xF1)
    try:
        content = b"\x80\x02\x82\xf1(" + text(f"touch {marker}") + b"tR."
        pickle.loads(content)
        assert marker.exists()
        marker.unlink()
        for code in (b"\x82\xf1", b"\x83\xf1\x00", b"\x84\xf1\x00\x00\x00"):
            with pytest.raises(UnsafeFileError, match="the operation EXT. is not needed for tensors"):
                read_pickle(content.replace(b"\x82\xf1", code), "x")
    finally:
        copyreg.remove_extension("posix", "system", 0xF1)
        copyreg.clear_extension_cache()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Pos.system\n.", "the operation PERSID"),
        (text("os.system") + b"Q.", "not a complete file of weights|unknown kind of reference"),
        (b"(" + text("module") + text("os") + text("system") + text("x") + b"K\x01tQ.", "an unknown kind of reference"),
        (b"cargparse\nNamespace\n}" + text("x") + b"K\x01sb.", "changes a Maker after building it"),
        (b"c_codecs\nencode\n(N}" + text("__defaults__") + b"Nstb.", "changes a Maker after building it"),
        (b"]}" + text("x") + b"K\x01sb.", "changes a list after building it"),
        (text("x") + b")R.", "the file calls a str"),
        (b"K\x01K\x02a.", "adds the items of a list to a int"),
        (b"}]" + text("x") + b"s.", "a key is neither text nor a number, but a list"),
        (b"].ignored", None),
        (call("builtins str", b"K\x01") + b".", "the file contains builtins.str"),
        (call("builtins int", text("9" * 9999)) + b".", "the argument of a number is not a number"),
        (call("builtins list", text("abc")) + b".", "the items of a container are a str"),
        (call("_codecs encode", text("x"), text("rot13")) + b".", "the text encoding 'rot13' is not supported"),
        (call("numpy dtype", text("O8")) + b".", r"the file contains numpy.dtype\('O8'\)"),
        (call("numpy dtype", text("S99")) + b".", r"the file contains numpy.dtype\('S99'\)"),
        (call("torch._utils _rebuild_tensor_v2", *[text("x")] * 4) + b".", "a tensor has no storage"),
        (b"\x80\x63.", "not a complete file"),
        (b"s.", "an operation has too few values"),
        (b"t.", "not a complete file"),
        (b"", "not a complete file"),
        (b"\xff" * 100, "not a complete file"),
    ],
)  # fmt: skip
def test_operations_that_weights_do_not_need_are_rejected(content, message):
    if message is None:
        assert read_pickle(content, "x") == []
        return
    with pytest.raises(UnsafeFileError, match=message):
        read_pickle(content, "x")


def bomb(levels, empty, pair):
    """Return nested containers of two references each."""
    return empty + b"q\x00" + b"".join(b"0h" + bytes([i]) + b"h" + bytes([i]) + pair + b"q" + bytes([i + 1])
                                        for i in range(levels))  # fmt: skip


LISTS = bomb(90, b"]", b"\x86")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x8e" + struct.pack("<Q", 2**50) + b"x.", "not a complete file"),
        (b"X" + struct.pack("<I", 2**32 - 1) + b"x.", "not a complete file"),
        (b"\x96" + struct.pack("<Q", 2**62) + b"x.", "not a complete file"),
        (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.", "not a complete file"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.", None),
        (b"Nr\xff\xff\xff\x7f.", None),
        (b"]" * 20_000 + b"a" * 19_999 + b".", "nested too deeply"),
        (b"]q\x00h\x00a.", "a container contains itself"),
        (LISTS + b".", None),
        (b"}" + LISTS + b"Ns.", "a key is neither text nor a number"),
        (LISTS + b"Q.", "unknown kind of reference|not a complete file"),
        (b"(" + text("storage") + text("FloatStorage") + LISTS + b"NK\x01tQ.", "unknown kind of reference"),
        (b"(" + text("storage") + text("FloatStorage") + text("0") + b"NJ\xff\xff\xff\x7ftQ.", "larger than the file"),
        (b"(" + text("storage") + text("FloatStorage") + text("0") + b"NJ\x00\x00\x00\x80tQ.", "larger than the file"),
    ],
)
def test_declared_sizes_take_no_memory_and_no_time(content, message):
    if message is None:
        read_pickle(content, "x")
        return
    with pytest.raises(UnsafeFileError, match=message):
        read_pickle(content, "x")


def array_operations(shape, data):
    """Return a numpy array as a pickle of numpy 1."""
    kind = call("numpy dtype", text("f4")) + b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return call("numpy.core.multiarray _reconstruct") + b"(K\x01" + shape + kind + b"\x89" + data + b"tb"


def test_an_array_with_too_few_elements_for_its_shape():
    whole = array_operations(b"K\x02\x85", b"C\x08" + b"\0" * 8)
    np.testing.assert_array_equal(read_pickle(b"\x80\x03" + whole + b".", "x"), [0, 0])
    with pytest.raises(UnsafeFileError, match="not a complete file of weights .ValueError: cannot reshape"):
        read_pickle(b"\x80\x03" + array_operations(b"J\xff\xff\xff\x7f\x85", b"C\x08" + b"\0" * 8) + b".", "x")


def test_many_views_of_the_same_bytes():
    data = b"B" + struct.pack("<I", 4000) + b"\0" * 4000 + b"q\x00"
    repeated = array_operations(b"M\xe8\x03\x85", b"h\x00")
    content = b"\x80\x03](" + data + b"0" + repeated * 200 + b"e."
    with pytest.raises(UnsafeFileError, match="use the same bytes of the file many times and would fill the memory"):
        read_pickle(content, "x")


def tensor(elements, key="0"):
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"J"
    storage += struct.pack("<i", elements) + b"tQ"
    shape = b"J" + struct.pack("<i", elements) + b"\x85"
    return call("torch._utils _rebuild_tensor_v2", storage, b"K\x00", shape, b"K\x01\x85", b"\x89", b"}")


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file, contextlib.suppress(UserWarning):
        for name, content in members:
            file.writestr(name, content)
    return path


def state(elements, key="0"):
    return b"\x80\x02}" + text("w") + tensor(elements, key) + b"s."


def test_members_with_odd_names_are_not_taken(tmp_path):
    path = tmp_path / "odd.pth"
    good = [("archive/data.pkl", state(2)), ("archive/data/0", b"\0" * 8)]
    outside = [("../../evil", b"x"), ("/etc/evil", b"x"), ("archive/../../evil", b"x"), ("C:\\evil", b"x")]
    np.testing.assert_array_equal(read_state_file(archive(path, good + outside))["w"], [0, 0])
    assert [file.name for file in tmp_path.iterdir()] == ["odd.pth"]
    assert not (tmp_path.parent / "evil").exists()
    key = "../../../evil"
    with pytest.raises(UnsafeFileError, match=r"no item named 'archive/data/../../../evil'"):
        read_state_file(archive(path, [("archive/data.pkl", state(2, key)), ("evil", b"\0" * 8)]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a/data.pkl", state(2)), ("b/data.pkl", state(2))], "a zip file, but torch.save has not written it"),
        ([("a/data.pkl", state(2)), ("a/data.pkl", state(2))], "a zip file, but torch.save has not written it"),
        ([("a/data.pkl/", b"")], "a zip file, but torch.save has not written it"),
        ([], "a zip file, but torch.save has not written it"),
        ([("a/data.pkl", state(2))], "no item named 'a/data/0'"),
        ([("a/data.pkl", state(2)), ("a/data/0", b"\0" * 7)], "the tensor data a/data/0 has the wrong size"),
        (
            [("a/data.pkl", state(2**28)), ("a/data/0", b"\0" * 8)],
            "larger than the file; the file is truncated or damaged",
        ),
    ],
)
def test_archives_that_torch_would_not_write(tmp_path, members, message):
    with pytest.raises(UnsafeFileError, match=f"x.pth: .*{message}"):
        read_state_file(archive(tmp_path / "x.pth", members))


@pytest.mark.parametrize("place", [0, 1])
def test_a_zip_bomb_is_not_unpacked(tmp_path, place):
    members = [("a/data.pkl", state(2**22)), ("a/data/0", b"\0" * 2**24)]
    path = archive(tmp_path / "bomb.pth", members[::-1] if place else members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**16
    with pytest.raises(UnsafeFileError, match="bomb.pth: a/data.pkl is compressed, which torch.save never does"):
        read_state_file(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", state(2**10))
        file.writestr("a/data/0", b"\0" * 2**12, zipfile.ZIP_DEFLATED)
        file.writestr("a/padding", b"\0" * 2**13)
    with pytest.raises(UnsafeFileError, match="bomb.pth: a/data/0 is compressed"):
        read_state_file(path)


def test_members_that_overlap_are_not_counted_twice(tmp_path):
    """Two names for the same bytes: 20 tensors of 4 kB in a file of 10 kB."""
    plain = io.BytesIO()
    tensors = b"".join(text(str(i)) + tensor(1024, str(i)) for i in range(20))
    with zipfile.ZipFile(plain, "w") as file:
        file.writestr("a/data.pkl", b"\x80\x02}(" + tensors + b"u.")
        file.writestr("a/data/0", b"\0" * 4096)
        info = file.getinfo("a/data/0")
        for number in range(1, 20):
            twin = zipfile.ZipInfo(f"a/data/{number}")
            twin.file_size = twin.compress_size = info.file_size
            twin.header_offset, twin.CRC = info.header_offset, info.CRC
            file.filelist.append(twin)
            file.NameToInfo[twin.filename] = twin
    path = tmp_path / "overlap.pth"
    path.write_bytes(plain.getvalue())
    with pytest.raises(UnsafeFileError, match="larger than the file"):
        read_state_file(path)


NUMBERS = b"]q\x00(" + b"K\x01" * 20_000 + b"e0"  # a list of 40 kB in the memo
LARGE = [b"\x8a\x0b" + (number * (2**61 - 1)).to_bytes(11, "little") for number in range(50_000)]  # of one hash
FLOATS = [b"G" + struct.pack(">d", 2.0 ** (61 * (i % 15)) * (i + 1)) for i in range(50_000)]
MODULE = b"ca\nM\n)R}(" + text("_parameters") + b"}" + text("w") + b"K\x01s" + text("_buffers") + b"}"
MODULE += text("_modules")


def twins(number):
    """Return a module that refers twice to module `number` of the memo."""
    child = b"h" + bytes([number])
    return b"0" + MODULE + b"}(" + text("a") + child + text("b") + child + b"uubq" + bytes([number + 1])


@pytest.mark.parametrize(
    "content",
    [
        NUMBERS + b"(" + b"cbuiltins\nlist\nh\x00\x85R" * 6000 + b"t.",
        NUMBERS + b"(" + b"cbuiltins\ntuple\nh\x00\x85R" * 6000 + b"t.",
        b"}q\x00("
        + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(5000))
        + b"u0("
        + b"ccollections\nOrderedDict\nh\x00\x85R" * 6000
        + b"t.",
        b"\x80\x04(" + b"\x8f" * 300_000 + b"t.",
        b"\x80\x04(" + b"}\x94" * 250_000 + b"t.",
        b"(" + b"ca\nb\n" * 120_000 + b"t.",
        MODULE + b"}ubq\x00" + b"".join(map(twins, range(60))) + b".",
    ],
    ids=["lists", "tuples", "dicts", "empty sets", "memo", "names", "modules within modules"],
)
def test_objects_that_would_fill_the_memory(content):
    with pytest.raises(UnsafeFileError, match="x: the file builds far more objects than its size justifies"):
        read_pickle(content, "x")


def test_copies_of_one_list_are_refused_before_they_are_made():
    content = NUMBERS + b"(" + b"cbuiltins\nlist\nh\x00\x85R" * 6000 + b"t."
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeFileError, match="the file builds far more objects than its size justifies"):
            read_pickle(content, "x")
        assert tracemalloc.get_traced_memory()[1] < 2**25  # without a limit, 960 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        call("_codecs encode", text("x"), LISTS),
        call("_codecs encode", LISTS, text("utf-8")),
        call("numpy dtype", LISTS),
        b"}"
        + text("UnpackBigParamInfor@@")
        + b"}"
        + text("w")
        + b"}"
        + text("slices")
        + b"]"
        + LISTS
        + b"as"
        + text("OriginShape")
        + LISTS
        + b"sss",
    ],
)
def test_nested_values_are_neither_printed_nor_hashed(content):
    assert len(content) < 2000
    with pytest.raises(
        UnsafeFileError, match="the text encoding .* not supported|dtype of an array is a tuple|a key is neither"
    ):
        read_pickle(content + b".", "x")


@pytest.mark.parametrize(
    "content",
    [
        b"}(" + b"".join(number + b"N" for number in LARGE) + b"u.",
        b"(" + b"".join(number + b"N" for number in LARGE) + b"d.",
        b"\x80\x04\x8f(" + b"".join(LARGE) + b"\x90.",
        b"\x80\x04(" + b"".join(LARGE) + b"\x91.",
        b"}(" + b"".join(b"K\x01" + number + b"\x86N" for number in LARGE) + b"u.",
        b"}(" + b"".join(number + b"N" for number in FLOATS) + b"u.",
    ],
)
def test_numbers_with_equal_hashes_are_fast_keys(content):
    """Comparing the keys with each other would take hours."""
    assert len(read_pickle(content, "x")) > 40_000


def test_a_key_that_is_long_is_refused():
    large = b"\x8b" + struct.pack("<i", 99) + b"\x01" * 99
    for key in (b"(" + b"K\x01" * 5 + b"t", b"(" + text("x" * 33) + b"t", large):
        with pytest.raises(UnsafeFileError, match="a key is longer than the keys of weights"):
            read_pickle(b"}" + key + b"Ns.", "x")


def test_large_plain_data_fits_the_budget():
    content = {
        "vocabulary": {f"word{i}": i for i in range(40_000)}, "numbers": [float(i) for i in range(40_000)],
        "flags": [True, None] * 40_000, "nested": [{"a": [i, (i, i)], "b": {}} for i in range(15_000)],
        "state": {i: {"step": i, "exp_avg": np.zeros(3, "float32")} for i in range(1000)},
    }  # fmt: skip
    for protocol in (2, 5):
        found = read_pickle(pickle.dumps(content, protocol), "x")
        assert found["vocabulary"] == content["vocabulary"] and found["nested"] == content["nested"]
        assert found["flags"] == content["flags"] and found["numbers"] == content["numbers"]
