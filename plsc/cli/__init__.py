"""The command line: `plsc <verb>`; each verb is one file of this package, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import List, Optional

from plsc import distribution, signals, terminal
from plsc.version import __version__

VERBS = {
    "train": "train from a config: pre-training, fine-tuning, probing, tokenizer training",
    "eval": "evaluate a checkpoint with the config it was trained with",
    "evaluate-frozen": "classify by frozen features: k-NN, linear and attentive probes, by block",
    "predict": "classify images with a checkpoint: files or folders, as a table or JSON",
    "report": "write one HTML page about a run, or about several compared",
    "visualize": "draw augmentation, masks, schedules, reconstructions and attention as PNGs",
    "extract-features": "write an encoder's features of images to an .npz file",
    "export": "write a network for others: Paddle inference, ONNX, safetensors, timm, with a model card",
    "sweep": "run a config with several settings, one after another or several at a time, and compare",
    "doctor": "look at Python, Paddle, device, memory, disk and data, and give advice",
    "convert": "convert weights between plsc, PLSC, the authors' CAE and timm",
    "replay": "repeat a step whose gradients were not finite, from its dump",
    "plan": "tell what a run would need on other devices: memory, time, communication",
    "benchmark": "measure a config on this machine: training step, data, start, scaling",
}
_MODULES = {"eval": "evaluation", "evaluate-frozen": "evaluate_frozen", "extract-features": "extract_features"}


def main(argv: Optional[List[str]] = None) -> int:
    """Run `plsc <verb> ...`; return the exit code."""
    terminal.open_missing()
    results = terminal.safe("stdout", terminal.ResultStream)
    try:
        with terminal.safe("stderr"), results, signals.exit_during_imports():
            try:
                code = _main(sys.argv[1:] if argv is None else argv)
                sys.stdout.flush()
                return code
            except terminal.ResultsLost as lost:
                if not lost.reader_ended:
                    print(f"error: {lost}", file=sys.stderr)
                return 0 if lost.reader_ended else 2
    finally:
        terminal.settle()


def _main(arguments: List[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"plsc {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        print(f"plsc: there is no verb {verb!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    problem = distribution.conflict() if verb != "doctor" else None  # doctor reports it with its other findings
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return importlib.import_module(f"plsc.cli.{_MODULES.get(verb, verb)}").main(rest)


def _usage() -> str:
    rows = "\n".join(f"  {verb:<16} {text}" for verb, text in VERBS.items())
    return f"usage: plsc <verb> [options]\n       plsc --version\n\n{rows}\n\n`plsc <verb> --help` tells more."
