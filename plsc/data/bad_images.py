"""Policy for images that cannot be read: stop the run, or skip and count them."""

import json
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Callable, Dict, Iterator, Mapping, Set

import numpy as np

from plsc import distributed, strict_json, terminal
from plsc.data.images import ImageError
from plsc.text import lines, printable

UNREADABLE = (ImageError, OSError)
_SUBSTITUTE_SALT = 3  # separates the random numbers of substitutes from those of transforms and masks
_TRIES = 20  # substitutes tried before the run stops; they may be bad, too


def tell(text: str) -> None:
    """Print a line to the terminal, in the main process only."""
    if distributed.is_main():
        print(lines(text), file=terminal.stderr())


@dataclass
class BadImages:
    """Policy of one loader for unreadable images, and the images found so far.

    Args:
        section: Key path of the loader's settings, used in messages; empty without a config.
        action: `stop` with an error, or `skip`.
        limit: Number of different images that may be skipped before the run stops.
        leave_out: Leave skipped images out; otherwise replace each by another image of the dataset.
        say: Called with one line of text for each skipped image.
    """

    section: str = ""
    action: str = "stop"
    limit: int = 100
    leave_out: bool = False
    say: Callable[[str], None] = tell
    dataset: Any = None  # of the loader; used to find classes without any readable image
    found: Dict[int, str] = field(default_factory=dict, init=False)  # index -> error message
    told: Set[int] = field(default_factory=set, init=False)

    def for_reading_once(self, **changes: Any) -> "BadImages":
        """Return a copy of the policy for a separate loader that leaves bad images out."""
        return replace(self, leave_out=True, dataset=None, **changes)

    def explained(self, error: Exception) -> ImageError:
        """Return the error that stops a run, with advice."""
        hint = f", or skip it: set {self.section}.on_bad_image: skip" if self.section else ""
        return ImageError(f"{lines(error)}{hint}")

    def note(self, found: Dict[int, str]) -> None:
        """Record the bad images that this process has found.

        Raises:
            ImageError: If there are more than `limit`; the message lists them.
        """
        self.found.update(found)
        self.check(self.found)

    def check(self, found: Mapping[int, str]) -> None:
        """Raise ImageError, which lists the images, if there are more than `limit`."""
        if len(found) > self.limit:
            listed = "\n  ".join(found.values())
            raise ImageError(
                f"{len(found)} images cannot be read; {self.section}.max_bad_images allows {self.limit}:\n  "
                f"{listed}\nrepair or remove them, or raise the limit"
            )

    def none_left(self, found: Mapping[int, str]) -> ImageError:
        """Return the error for a dataset without any readable image; `found` lists all of them."""
        listed = "\n  ".join(found.values())
        where = self.section.replace(".loader", "") or "the dataset"
        return ImageError(f"none of the {len(found)} images of {where} can be read:\n  {listed}\nrepair them")

    def share(self) -> int:
        """Report new bad images of all processes and return their total number; a collective call."""
        news = {index: text for index, text in self.found.items() if index not in self.told}
        if distributed.any_process(bool(news)):
            everyone = distributed.gather_objects(news)
            news = {index: text for theirs in everyone for index, text in theirs.items() if index not in self.told}
            for index, text in sorted(news.items()):
                self.told.add(index)
                self.say(f"bad image, skipped: {text}")
            self._tell_classes(news)
            self.note(news)
        return len(self.found)

    def _tell_classes(self, news: Mapping[int, str]) -> None:
        """Report the classes of the images in `news` that have no readable image left."""
        labels, names = getattr(self.dataset, "labels", None), getattr(self.dataset, "classes", None) or ()
        if labels is None:
            return
        labels = np.asarray(labels)
        bad = np.zeros(len(labels), dtype=bool)
        bad[[index for index in self.told if index < len(bad)]] = True
        for label in sorted({int(labels[index]) for index in news if index < len(labels)}):
            if bad[labels == label].all():
                name = names[label] if label < len(names) else label
                effect = "the class is not evaluated" if self.leave_out else "the class is not trained"
                count = int((labels == label).sum())
                self.say(f"no image of class {printable(name)} can be read ({count} of {count} are bad): {effect}")

    def count(self) -> int:
        """Number of images left out in all processes since `forget`; a collective call."""
        mine = len(self.found)
        self.share()
        return int(distributed.sum_over_processes(np.array([float(mine)]))[0])

    def forget(self) -> None:
        """Reset the count; images that were reported are not reported again."""
        self.found.clear()

    def state_dict(self) -> Dict[str, Any]:
        """State for resuming a run, as plain data."""
        return {"found": list(self.found.items()), "told": sorted(self.told)}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by `state_dict()`."""
        self.found.update(dict(state.get("found", ())))
        self.told.update(state.get("told", ()))


def substitutes(seed: int, epoch: int, index: int, size: int) -> Iterator[int]:
    """Indices of images to try in place of `index` in `epoch`, in order; they depend on the arguments only."""
    rng = np.random.default_rng([seed, epoch, index, _SUBSTITUTE_SALT])
    return islice(iter(lambda: int(rng.integers(size)), None), _TRIES)


def encode(found: Dict[int, str]) -> np.ndarray:
    """Encode the bad images that a worker has found as a batch entry, uint8 (bytes,)."""
    return np.frombuffer(strict_json.dumps(list(found.items())).encode(), dtype=np.uint8)


def decode(entry: np.ndarray) -> Dict[int, str]:
    """Decode a batch entry made by `encode`."""
    return dict(json.loads(entry.tobytes().decode()))
