"""Which settings a sweep tries: the grid of several values per key, or random draws."""

import math
import random
import re
from dataclasses import dataclass
from itertools import product
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from plsc.config.tree import ConfigError, parse

_LONGEST_NAME = 120
_RANGE = re.compile(r"^(uniform|log):([^:,]+):([^:,]+)$")


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, evenly or evenly in the logarithm; for random draws."""

    low: float
    high: float
    logarithmic: bool

    def draw(self, rng: random.Random) -> float:
        """A number of four digits."""
        if self.logarithmic:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return float(f"{value:.4g}")


Values = Union[List[str], Range]


def combinations(
    overrides: Sequence[str], draws: Optional[int] = None, seed: int = 0
) -> Tuple[List[str], List[Dict[str, str]]]:
    """What is the same in every run, and what is not.

    Args:
        overrides: `key=a,b,c` tries each; `key=log:1e-4:1e-2` and `key=uniform:0:0.3` are for random draws; any other
            override is the same in every run. A comma inside brackets or quotes separates nothing.
        draws: Number of random draws; None: the whole grid.
        seed: Of the draws.

    Returns:
        Overrides of every run, and for each run its values by key, all different.

    Raises:
        ConfigError: If nothing varies, a range is given for a grid, or a range is none.
    """
    fixed, varied = [], {}
    for text in overrides:
        values = _values(text)
        if values is None:
            fixed.append(text)
        else:
            varied[text.partition("=")[0].strip()] = values
    if "Global.output_dir" in varied:
        raise ConfigError("Global.output_dir: each run of a sweep gets a folder of its own; --out says in which")
    if not varied:
        raise ConfigError("nothing varies: give a key several values, as in -o Optimizer.weight_decay=0.0,0.05")
    if draws is not None:
        return fixed, _draw(varied, draws, random.Random(seed))
    ranges = [key for key, values in varied.items() if isinstance(values, Range)]
    if ranges:
        raise ConfigError(f"{', '.join(ranges)}: a range has no grid; list its values, or give --random N")
    lists = [values for values in varied.values() if not isinstance(values, Range)]
    return fixed, [dict(zip(varied, chosen)) for chosen in product(*lists)]


def _values(text: str) -> Optional[Values]:
    key, mark, value = text.partition("=")
    if not mark or key.endswith("+") or text.startswith("~"):
        return None
    found = _RANGE.match(value.strip())
    if found:
        return _range(text, *found.groups())
    parts = [part.strip() for part in _split(value)]
    if len(parts) < 2:
        return None
    if len(set(parts)) < len(parts) or "" in parts:
        raise ConfigError(f"-o {text}: the values must be different and not empty")
    return parts


def _range(text: str, kind: str, low: str, high: str) -> Range:
    ends = [parse(end, f"-o {text}", inline=True) for end in (low, high)]
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends)
    if not numbers or ends[0] >= ends[1] or (kind == "log" and ends[0] <= 0):
        needed = "two numbers, the lower first" + (", above 0" if kind == "log" else "")
        raise ConfigError(f"-o {text}: {kind} takes {needed}")
    return Range(float(ends[0]), float(ends[1]), kind == "log")


def _split(value: str) -> List[str]:
    """Parts between the commas that are in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in value:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _draw(varied: Dict[str, Values], draws: int, rng: random.Random) -> List[Dict[str, str]]:
    """Up to `draws` different combinations; a small grid may have fewer."""
    found: List[Dict[str, str]] = []
    for _ in range(draws * 50):
        if len(found) == draws:
            break
        one = {
            key: repr(values.draw(rng)) if isinstance(values, Range) else rng.choice(values)
            for key, values in varied.items()
        }
        if one not in found:
            found.append(one)
    return found


def run_name(values: Dict[str, str]) -> str:
    """A folder name that tells a run from the others of its sweep: last parts of the keys, and values."""
    last = [key.split(".")[-1] for key in values]
    keys = last if len(set(last)) == len(last) else list(values)
    text = ",".join(f"{key}={value}" for key, value in zip(keys, values.values()))
    return re.sub(r"[^\w.=,+-]+", "_", text)[:_LONGEST_NAME]


def named(tried: Sequence[Dict[str, str]]) -> Dict[str, Dict[str, str]]:
    """The runs of a sweep by folder names, which are all different."""
    found: Dict[str, Dict[str, str]] = {}
    for values in tried:
        name, number = run_name(values), 2
        while name in found:
            name, number = f"{run_name(values)}-{number}", number + 1
        found[name] = values
    return found


def table(rows: Sequence[Tuple[Dict[str, str], Dict[str, Any]]], metric: str) -> str:
    """Settings and results in columns, in the order given.

    Args:
        rows: Values by key, and `best`, `epoch` (missing for a run without result).
        metric: The name of what was compared.
    """
    keys = list(rows[0][0])
    header = [*(key.split(".")[-1] for key in keys), metric, "at epoch"]
    lines = [header]
    for values, result in rows:
        shown = [f"{result['best']:.4g}", f"{result['epoch']:.4g}"] if "best" in result else ["-", "-"]
        lines.append([*(values[key] for key in keys), *shown])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths)) for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])
