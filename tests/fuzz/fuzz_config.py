"""Coverage-guided fuzzing of the YAML and override parser; run by hand from the repository's root:

    python tests/fuzz/fuzz_config.py -max_total_time=600 [FOLDER]

An input is a file's text and overrides, separated by the character 0x1e. Those that reach new code are kept in FOLDER.
"""

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

with atheris.instrument_imports(include=["yaml", "plsc"]):
    from tests.fuzz import configs

SCRATCH = tempfile.mkdtemp()


def one_input(data):
    text, *overrides = data.decode("utf-8", "replace").split("\x1e")
    configs.check_text(SCRATCH, text, overrides[:8])


def seeds(folder):
    """Write seed inputs: the configs shipped with plsc, and attacks."""
    for number, path in enumerate(sorted(configs.config_root().rglob("*.yaml"))):
        (folder / f"config-{number}").write_text(path.read_text() + "\x1eGlobal.epochs=3\x1e~Optimizer\x1ea.0+=[1]")
    for number, attack in enumerate(configs.ATTACKS):
        (folder / f"attack-{number}").write_bytes(f"a: {attack}\x1ea={attack}".encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    from tests.fuzz.running import fuzz_by_coverage

    fuzz_by_coverage(one_input, seeds)
