"""Command `plsc predict --checkpoint X IMAGES`: the most probable classes of images."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Dict, Iterator, List, Optional

from plsc import strict_json
from plsc.cli import common

_NOT_FINITE = "no finite scores"


def main(argv: Optional[List[str]] = None) -> int:
    """Run the verb; return the exit code."""
    parser = common.parser("predict", "Classify images: files, or all images in a folder and its subfolders.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files or folders")
    common.add_checkpoint_options(parser)
    parser.add_argument("--topk", type=int, default=5, help="number of classes per image (5)")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="json: one object per line (table)"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images per batch (64)")
    return common.guarded(_run, parser.parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    common.at_least(1, topk=arguments.topk, batch_size=arguments.batch_size)

    model = common.load_predictor(arguments)
    if model.classes is not None and not model.names_are_saved:
        print(
            f"note: {model.path} has no class names; the names of the run's dataset are used, in their order",
            file=sys.stderr,
        )
    failed = 0
    for row in _rows(model, arguments):
        failed += "error" in row
        print(strict_json.dumps(row) if arguments.format == "json" else _text(row), flush=True)
    if failed:
        print(f"{failed} file(s) could not be read or classified", file=sys.stderr)
    return common.FAILURE if failed else 0


def _rows(model: Any, arguments: argparse.Namespace) -> Iterator[Dict[str, Any]]:
    """One for each image, in order; a batch is read and classified at a time."""
    from plsc.data.bad_images import UNREADABLE
    from plsc.inference.preprocess import Prepared, find_images
    from plsc.text import lines, printable

    files = find_images(arguments.images, model.prepare.extensions)
    for start in range(0, len(files), arguments.batch_size):
        opened: Dict[str, Any] = {}
        for file in files[start : start + arguments.batch_size]:
            try:
                opened[str(file)] = Prepared(model.prepare.pixels(file))  # smaller than the decoded files may be
            except UNREADABLE as error:
                opened[str(file)] = error
        readable = [image for image in opened.values() if isinstance(image, Prepared)]
        found = iter(_predictions(model, readable, arguments))
        for name, image in opened.items():
            guesses = next(found) if isinstance(image, Prepared) else image
            if isinstance(guesses, Exception):
                yield {"file": printable(name), "error": lines(guesses)}
            else:
                predictions = [{**guess._asdict(), "name": printable(guess.name)} for guess in guesses]
                yield {"file": printable(name), "predictions": predictions}


def _predictions(model: Any, images: List[Any], arguments: argparse.Namespace) -> List[Any]:
    """Return the predictions of each image, or the error of an image with scores that are not finite."""
    if not images:
        return []
    try:
        return list(model.predict(images, arguments.topk, arguments.batch_size))
    except FloatingPointError:
        if len(images) == 1:
            return [FloatingPointError(f"{_NOT_FINITE}: the network's scores for it are NaN or infinite")]
    return [one for image in images for one in _predictions(model, [image], arguments)]


def _text(row: Dict[str, Any]) -> str:
    if "error" in row:
        if row["error"].startswith(_NOT_FINITE):
            return f"{row['file']}  {_NOT_FINITE}"
        reason = row["error"].replace(f"{row['file']}: ", "", 1)
        return f"{row['file']}  cannot be read: {reason}"
    shown = "  ".join(f"{one['name']} {one['probability']:.1%}" for one in row["predictions"])
    return f"{row['file']}  {shown}"
