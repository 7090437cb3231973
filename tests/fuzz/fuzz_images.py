"""Coverage-guided fuzzing of image decoding; run by hand from the repository's root:

    python tests/fuzz/fuzz_images.py -max_total_time=600 [FOLDER]

The input is a file's content, read by both decoders. Inputs that reach new code are kept in FOLDER.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

with atheris.instrument_imports(include=["PIL"]):
    from PIL import Image

    Image.init()

import paddle  # noqa: E402, F401 - imported before the instrumentation, as its code is not tested

with atheris.instrument_imports(include=["plsc.data.images", "plsc.data.fast_image"]):
    from tests.fuzz import images

SCRATCH = os.path.join(tempfile.mkdtemp(), "image")


def one_input(data):
    images.check_data(SCRATCH, data)


def seeds(folder):
    """Write seed inputs: valid images of many kinds."""
    for number, data in enumerate(images.seeds()):
        (folder / f"image-{number}").write_bytes(data)


if __name__ == "__main__":
    from tests.fuzz.running import fuzz_by_coverage

    warnings.simplefilter("ignore")
    os.environ[images.LIMIT] = str(images.PIXELS)
    fuzz_by_coverage(one_input, seeds)
