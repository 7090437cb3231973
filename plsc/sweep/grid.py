"""Settings of the runs of a sweep: a grid of several values per key, or random draws."""

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
    """Range for random draws, uniform or log-uniform."""

    low: float
    high: float
    logarithmic: bool

    def draw(self, rng: random.Random) -> float:
        """Return a random value of the range, rounded to four significant digits."""
        if self.logarithmic:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return float(f"{value:.4g}")


Values = Union[List[str], Range]


def combinations(
    overrides: Sequence[str], draws: Optional[int] = None, seed: int = 0
) -> Tuple[List[str], List[Dict[str, str]]]:
    """Split overrides into those that all runs share and those that vary, and combine the latter.

    Args:
        overrides: `key=a,b,c` gives the values of a key; `key=log:1e-4:1e-2` and `key=uniform:0:0.3` give the range of
            random draws; any other override is the same in every run. A comma inside brackets or quotes does not
            separate values.
        draws: Number of random draws; None: the complete grid.
        seed: Seed of the draws.

    Returns:
        Overrides of all runs, and for each run its values by key; no two runs are equal.

    Raises:
        ConfigError: If no key has several values, a grid contains a range, or a range is not valid.
    """
    fixed, varied = [], {}
    for text in overrides:
        values = _values(text)
        if values is None:
            fixed.append(text)
        else:
            varied[text.partition("=")[0].strip()] = values
    if "Global.output_dir" in varied:
        raise ConfigError(
            "Global.output_dir cannot vary: every run of a sweep has a subfolder of --out; set --out instead"
        )
    if not varied:
        raise ConfigError("no key has several values; give at least two, such as -o Optimizer.weight_decay=0.0,0.05")
    if draws is not None:
        return fixed, _draw(varied, draws, random.Random(seed))
    ranges = [key for key, values in varied.items() if isinstance(values, Range)]
    if ranges:
        raise ConfigError(f"{', '.join(ranges)}: a grid cannot contain a range; list the values, or set --random N")
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
    """Split a value at the commas outside of brackets and quotes."""
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
    """Draw up to `draws` different combinations; a small grid may have fewer."""
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
    """Return a folder name for a run of a sweep: the last parts of the keys, with the values."""
    last = [key.split(".")[-1] for key in values]
    keys = last if len(set(last)) == len(last) else list(values)
    text = ",".join(f"{key}={value}" for key, value in zip(keys, values.values()))
    return re.sub(r"[^\w.=,+-]+", "_", text)[:_LONGEST_NAME]


def named(tried: Sequence[Dict[str, str]]) -> Dict[str, Dict[str, str]]:
    """Return the runs of a sweep by unique folder names."""
    found: Dict[str, Dict[str, str]] = {}
    for values in tried:
        name, number = run_name(values), 2
        while name in found:
            name, number = f"{run_name(values)}-{number}", number + 1
        found[name] = values
    return found


def table(rows: Sequence[Tuple[Dict[str, str], Dict[str, Any]]], metric: str) -> str:
    """Return a text table of settings and results, in the given order.

    Args:
        rows: For each run its values by key, and `best` and `epoch`, which are missing for a run without a result.
        metric: Name of the metric.
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
