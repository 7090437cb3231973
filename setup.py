"""Packaging of plsc. The configs of the repository are installed with the package, as `plsc/configs`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "plsc" / "version.py").read_text(encoding="utf-8"))[1]

setup(
    name="plsc-ssl",  # the public index has another project's `plsc`; plsc/distribution.py
    version=VERSION,
    description="Self-supervised vision on PaddlePaddle, driven by YAML: CAE pre-training, fine-tuning and probing",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The plsc contributors",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=[*find_packages(include=["plsc", "plsc.*"]), "plsc.configs"],
    py_modules=["plsc_ssl"],
    package_dir={"plsc.configs": "configs"},
    package_data={"plsc": ["py.typed"], "plsc.configs": ["**/*.yaml", "*/*.yaml", "*/*/*.yaml"]},
    # Lower bounds: `make test-lowest` runs the tests with exactly these versions. Upper bounds: none where an interface
    # is stable, as `make test` meets the newest version first and a cap would keep repairs away; docs/supply.md.
    install_requires=[
        "numpy>=1.22", "pyyaml>=6.0", "pillow>=9.2.0", "safetensors>=0.4.0", "tqdm>=4.60", "visualdl>=2.5.0",
    ],  # fmt: skip
    extras_require={
        # Capped: operators, optimizers' states and private modules change with Paddle's minor versions.
        "cpu": ["paddlepaddle>=2.6.2,<3.4"],
        # The newest GPU build on the public index; it predates NumPy 2 and protobuf 5.
        "gpu": ["paddlepaddle-gpu>=2.6.2,<3.4", "numpy<2", "protobuf<5"],
        "fast": ["simplejpeg>=1.7.1", "opencv-python-headless>=4.5.5.64"],
        # Tried: 2.1.0 with Paddle 3.3.1; 1.3.1 with Paddle 2.6.2, of which 2.x takes no programs. Both need onnx 1.17.
        "onnx": ["paddle2onnx>=1.3.1,<2.2", "onnx>=1.16,<1.18", "onnxruntime>=1.17"],
        "quickstart": ["mlxtend>=0.22.0", "scikit-learn>=1.2.0", "matplotlib>=3.5.0"],
        "test": [
            "pytest>=7.0.0", "pytest-xdist>=3.0.2", "hypothesis>=6.0.0", "scikit-image>=0.19.3", "ruff>=0.6.0",
            "mypy>=1.11.0", "types-PyYAML>=6.0.12", "build>=1.0.0",
        ],
        "fuzz": ["atheris>=3.0.0"],
        # Tried: these versions on Python 3.9, and the newest on 3.11. ruff formats the signatures.
        "docs": [
            "mkdocs>=1.6.1", "mkdocs-material>=9.6.0", "mkdocstrings>=0.30.0", "mkdocstrings-python>=1.16.12",
            "ruff>=0.6.0",
        ],
    },
    entry_points={
        "console_scripts": [
            "plsc = plsc_ssl:main",
            "plsc-train = plsc_ssl:train",
            "plsc-eval = plsc_ssl:evaluate",
        ]
    },
    classifiers=["Programming Language :: Python :: 3", "Topic :: Scientific/Engineering :: Artificial Intelligence"],
)
