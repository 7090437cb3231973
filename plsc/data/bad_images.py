"""What becomes of images that cannot be read: the run stops, or goes on with others and counts them."""

import json
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Callable, Dict, Iterator, Mapping, Set

import numpy as np

from plsc import distributed, strict_json, terminal
from plsc.data.images import ImageError
from plsc.text import lines, printable

UNREADABLE = (ImageError, OSError)
_SUBSTITUTE_SALT = 3  # tells the choice of substitutes from an image's transforms and its mask
_TRIES = 20  # substitutes that may be bad themselves


def tell(text: str) -> None:
    """Prints a line to the terminal, from one process of a job."""
    if distributed.is_main():
        print(lines(text), file=terminal.stderr())


@dataclass
class BadImages:
    """The policy of one loader and what it has met.

    Args:
        section: Key path of the loader's settings, for messages; none if it has none.
        action: `stop` with an error, or `skip`.
        limit: Different images that may be skipped before the run stops after all.
        leave_out: Skipped images are left out; otherwise another image of the data set takes their place.
        say: Takes a line about each of them.
    """

    section: str = ""
    action: str = "stop"
    limit: int = 100
    leave_out: bool = False
    say: Callable[[str], None] = tell
    dataset: Any = None  # of the loader, to know which classes have no image left
    found: Dict[int, str] = field(default_factory=dict, init=False)  # index to what is wrong with it
    told: Set[int] = field(default_factory=set, init=False)

    def for_reading_once(self, **changes: Any) -> "BadImages":
        """The same policy for a loader of its own, which leaves bad images out."""
        return replace(self, leave_out=True, dataset=None, **changes)

    def explained(self, error: Exception) -> ImageError:
        """The error of a run that stops."""
        hint = f", or go on without it: {self.section}.on_bad_image: skip" if self.section else ""
        return ImageError(f"{lines(error)}{hint}")

    def note(self, found: Dict[int, str]) -> None:
        """Takes in what this process has met.

        Raises:
            ImageError: With the list, if there are too many.
        """
        self.found.update(found)
        self.check(self.found)

    def check(self, found: Mapping[int, str]) -> None:
        """Raises ImageError, with the list, if these are more than the limit."""
        if len(found) > self.limit:
            listed = "\n  ".join(found.values())
            raise ImageError(
                f"{len(found)} images cannot be read, more than {self.section}.max_bad_images: {self.limit}:\n  "
                f"{listed}\nrepair or remove them, or raise the limit"
            )

    def none_left(self, found: Mapping[int, str]) -> ImageError:
        """The error of a dataset whose images are all in `found`."""
        listed = "\n  ".join(found.values())
        where = self.section.replace(".loader", "") or "the dataset"
        return ImageError(f"none of the {len(found)} images of {where} can be read:\n  {listed}\nrepair them")

    def share(self) -> int:
        """Tells what is new and returns how many there are in all processes, which must all call."""
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
        """Tells which classes have no image that can be read, now that `news` cannot be read either."""
        labels, names = getattr(self.dataset, "labels", None), getattr(self.dataset, "classes", None) or ()
        if labels is None:
            return
        labels = np.asarray(labels)
        bad = np.zeros(len(labels), dtype=bool)
        bad[[index for index in self.told if index < len(bad)]] = True
        for label in sorted({int(labels[index]) for index in news if index < len(labels)}):
            if bad[labels == label].all():
                name = names[label] if label < len(names) else label
                effect = "it is not evaluated" if self.leave_out else "nothing is learned about it"
                count = int((labels == label).sum())
                self.say(f"no image of class {printable(name)} can be read ({count} of {count} are bad): {effect}")

    def count(self) -> int:
        """Images left out in all processes since `forget`; each is read by one of them. All must call."""
        mine = len(self.found)
        self.share()
        return int(distributed.sum_over_processes(np.array([float(mine)]))[0])

    def forget(self) -> None:
        """Begins to count anew; what has been told is not told again."""
        self.found.clear()

    def state_dict(self) -> Dict[str, Any]:
        """What a resumed run has to know; plain data."""
        return {"found": list(self.found.items()), "told": sorted(self.told)}

    def set_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict()`."""
        self.found.update(dict(state.get("found", ())))
        self.told.update(state.get("told", ()))


def substitutes(seed: int, epoch: int, index: int, size: int) -> Iterator[int]:
    """Which images to try instead of `index` in `epoch`, in this order; a function of the arguments alone."""
    rng = np.random.default_rng([seed, epoch, index, _SUBSTITUTE_SALT])
    return islice(iter(lambda: int(rng.integers(size)), None), _TRIES)


def encode(found: Dict[int, str]) -> np.ndarray:
    """What a worker has met, as an entry of a batch: uint8 (bytes,)."""
    return np.frombuffer(strict_json.dumps(list(found.items())).encode(), dtype=np.uint8)


def decode(entry: np.ndarray) -> Dict[int, str]:
    """The inverse of `encode`."""
    return dict(json.loads(entry.tobytes().decode()))
