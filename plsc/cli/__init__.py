"""Command line `plsc <verb>`; each verb is one file of this package and is imported only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import List, Optional

from plsc import distribution, signals, terminal
from plsc.version import __version__

VERBS = {
    "train": "train from a config: pre-training, fine-tuning, probing, tokenizer training",
    "eval": "evaluate a checkpoint on the evaluation set of its config",
    "evaluate-frozen": "evaluate frozen features: k-NN, linear and attentive probes, probes of each block",
    "predict": "classify image files or folders with a checkpoint; print a table or JSON",
    "report": "write an HTML report of one run or a comparison of several runs",
    "visualize": "write PNG figures of augmentation, masks, schedules, reconstructions and attention",
    "extract-features": "write the features of images to an .npz file",
    "export": "export a network to Paddle inference, ONNX, safetensors or timm, with a model card",
    "sweep": "train a config with several settings, in sequence or in parallel, and compare the runs",
    "doctor": "check Python, Paddle, device, memory, disk and data, and give advice",
    "convert": "convert weights between the formats of plsc, PLSC, the CAE authors and timm",
    "replay": "repeat a training step with non-finite gradients from its dump",
    "plan": "estimate the memory, time and communication of a run on other devices",
    "benchmark": "measure a config on this machine: training step, data loading, startup, scaling",
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
        print(f"plsc: unknown verb {verb!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    problem = distribution.conflict() if verb != "doctor" else None  # doctor reports it with its other findings
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return importlib.import_module(f"plsc.cli.{_MODULES.get(verb, verb)}").main(rest)


def _usage() -> str:
    rows = "\n".join(f"  {verb:<16} {text}" for verb, text in VERBS.items())
    usage = "usage: plsc <verb> [options]\n       plsc --version"
    return f"{usage}\n\n{rows}\n\n`plsc <verb> --help` shows the options of a verb."
