"""Name of the distribution, messages about installing it, and another project's `plsc`."""

import ast
import re
import subprocess
import sys

import pytest

import plsc
from plsc import distribution
from tests.integration.runs import ROOT


@pytest.fixture
def foreign(tmp_path):
    """A folder with the metadata of an installed distribution: `foreign(name, *recorded files)`."""

    def install(name, *recorded):
        folder = tmp_path / "site" / f"{name}-2.4.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.4.0\n", encoding="utf-8")
        (folder / "RECORD").write_text("".join(f"{file},,\n" for file in recorded), encoding="utf-8")
        return folder.parent

    return install


def test_another_projects_package_is_found(foreign):
    site = foreign("plsc", "plsc/__init__.py", "plsc/engine.py")
    message = distribution.conflict([str(site)])
    assert f"another project's distribution plsc 2.4.0 is installed in {site}" in message
    assert message.endswith("run pip uninstall plsc, then pip install -e . in the checkout of plsc")


@pytest.mark.parametrize(
    ("name", "file"), [("plsc_ssl", "plsc/__init__.py"), ("plsc", "__editable__.plsc.pth"), ("plsc_serving", "x.py")]
)
def test_the_projects_own_installations_are_no_conflict(foreign, name, file):
    assert distribution.conflict([str(foreign(name, file))]) is None


def run(site, *command):
    code = f"import sys; sys.path.append({str(site)!r}); "
    return subprocess.run(
        [sys.executable, "-c", code + command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True
    )


def test_commands_and_functions_refuse_to_start_beside_it(foreign):
    site = foreign("plsc", "plsc/__init__.py")
    command = "from plsc.cli import main; sys.exit(main(sys.argv[1:]))"
    done = run(site, command, "train", "-c", "configs/quickstart/scratch.yaml")
    assert done.returncode == 2 and done.stderr.startswith("error: another project's distribution plsc 2.4.0")
    assert run(site, command, "--version").returncode == 0
    for call in ("load('x')", "train('x')"):
        done = run(site, f"import plsc; plsc.{call}")
        assert "ImportError: another project's distribution plsc 2.4.0 is installed" in done.stderr


@pytest.mark.parametrize("module", ["", "class Engine: pass"])
def test_a_command_says_that_the_other_package_is_imported(tmp_path, module):
    """The other package comes first on the path, as one in site-packages does before an editable installation."""
    (tmp_path / "plsc").mkdir()
    (tmp_path / "plsc" / "__init__.py").write_text(module, encoding="utf-8")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import plsc_ssl; sys.exit(plsc_ssl.main())"
    done = subprocess.run([sys.executable, "-c", code, "train"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: another package is imported as plsc, from {tmp_path / 'plsc'}" in done.stderr


def test_console_scripts_start_in_the_module_that_checks():
    scripts = re.findall(r'"plsc[\w-]* = (\w+):(\w+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    module = ast.parse((ROOT / "plsc_ssl.py").read_text(encoding="utf-8"))
    functions = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
    assert len(scripts) == 3 and {name for name, _ in scripts} == {"plsc_ssl"}
    assert {function for _, function in scripts} <= functions


def test_no_message_or_page_installs_the_other_project():
    files = [*(ROOT / "plsc").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *ROOT.glob("*.py")]
    wrong = re.compile(r"""pip install ['"]?plsc\b|plsc\[""")
    assert [str(file) for file in files if wrong.search(file.read_text(encoding="utf-8"))] == []


def test_the_way_to_install():
    assert distribution.install() == "pip install -e . in the checkout of plsc"
    expected = "pip install -e '.[cpu]' or pip install -e '.[gpu]' in the checkout of plsc"
    assert distribution.install("cpu", "gpu") == expected


@pytest.mark.parametrize("command", [["-m", "plsc"], ["-c", "import plsc_ssl, sys; sys.exit(plsc_ssl.main())"]])
def test_the_version(command):
    done = subprocess.run([sys.executable, *command, "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"plsc {plsc.__version__}\n")


def test_name_and_author_of_the_distribution():
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert f'name="{distribution.NAME}"' in text and 'author="The plsc contributors"' in text
