"""A model card in Markdown, filled from the files of a run."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from plsc.config.tree import ConfigMap, dump, one_line
from plsc.inference.predictor import Predictor
from plsc.models.vit import ViT
from plsc.nn.utils import count_parameters
from plsc.runs.history import before, changes
from plsc.runs.reader import Run, read_run

_USE = {
    "paddle": """import paddle

network = paddle.jit.load("model")
output = network(image)  # float32 (batch, 3, {height}, {width}), prepared as above""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
output = session.run(None, {{session.get_inputs()[0].name: image}})[0]  # float32 (batch, 3, {height}, {width})""",
    "safetensors": """# In a config of plsc:
# Init: {{checkpoint: model.safetensors}}""",
    "timm": """import timm
from safetensors.torch import load_file

network = timm.models.vision_transformer.VisionTransformer({arguments})
network.load_state_dict(load_file("timm.safetensors"))""",
}


def model_card(model: Predictor, facts: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Write the card of an exported network.

    Args:
        model: The network.
        facts: Content of preprocessing.json.
        files: File names by format.
    """
    run = _run(model.path)
    config = model.config
    title = run.name if run is not None else model.path.name
    parameters = sum(count for kind, count in count_parameters(model.task).items() if kind != "buffers")
    rows = {
        "task": config["Task"]["name"],
        "network": config["Model"]["name"],
        "parameters of the whole task": f"{parameters:,}",
        "output": facts["output"]["what"],
        "trained on": one_line(config["DataLoader"]["Train"]["dataset"]),
        "started from": (config.get("Init") or {}).get("checkpoint") or "random weights",
        "optimizer steps": f"{model.step:,}",
        "checkpoint": str(model.path),
    }
    parts = [f"# {title}", _table(rows)]
    parts += _evaluation(run, model.step)
    parts += ["## Preparation of images", _preparation(facts), "## Use", *_uses(model, facts, files)]
    parts += ["## Intended use and limits", "*To be written by the publisher of this network.*"]
    if run is not None and run.environment:
        chosen = ("plsc", "paddle", "python", "device", "git_commit")
        parts += ["## Made with", _table({key: run.environment.get(key) for key in chosen})]
    parts += ["## Configuration", *_past(run, config.tree), f"```yaml\n{dump(config).rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _run(path: Path) -> Optional[Run]:
    """The run that a checkpoint directory is part of; None for another directory."""
    try:
        return read_run(path.resolve().parent.parent)
    except (ValueError, OSError):
        return None


def _past(run: Optional[Run], config: ConfigMap) -> List[str]:
    """Keys that were changed between the parts of the run."""
    found = changes(before(run.history, config), config) if run is not None else []
    parts = ["The configuration was changed during the run; this is the last one."] if found else []
    for past, changed in found:
        rows = [f"| `{key}` | {_cell(old)} | {_cell(new)} |" for key, old, new in changed]
        parts.append("\n".join([f"| key | {past} | after it |", "|---|---|---|", *rows]))
    return parts


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows.items())])


def _cell(value: Any) -> str:
    """A value on one line, escaped for a table cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _evaluation(run: Optional[Run], step: int) -> List[str]:
    rows = [row for row in (run.rows.get("eval", []) if run is not None else []) if row["step"] == step]
    if not rows:
        return []
    left_out = ("step", "epoch", "split", "time")
    metrics: Dict[str, str] = {name: f"{value:.4g}" for name, value in rows[-1].items() if name not in left_out}
    images = one_line(run.config["DataLoader"]["Eval"]["dataset"])
    return [f"## Evaluation at step {step:,}", _table({"images": images, **metrics})]


def _preparation(facts: Mapping[str, Any]) -> str:
    steps = [*facts["transforms"], *facts["batch_transforms"]]
    lines = [f"{number}. `{one_line(node)}`" for number, node in enumerate(steps, 1)]
    shape = " x ".join(map(str, facts["input"]["shape"]))
    return "\n".join([*lines, "", f"Then: float32, {shape}, RGB. `preprocessing.json` has the same for programs."])


def _uses(model: Predictor, facts: Mapping[str, Any], files: Mapping[str, str]) -> List[str]:
    height, width = facts["input"]["shape"][2:]
    values = {"height": height, "width": width, "arguments": ""}
    encoder = model.task.encoder
    if isinstance(encoder, ViT):
        chosen = ", ".join(f"{name}={value!r}" for name, value in _timm_arguments(encoder, facts).items())
        values["arguments"] = f"\n    {chosen},\n"
    return [f"`{name}`:\n\n```python\n{_USE[kind].format(**values)}\n```" for kind, name in files.items()]


def _timm_arguments(encoder: ViT, facts: Mapping[str, Any]) -> Dict[str, Any]:
    """Arguments of timm's VisionTransformer for the same network."""
    output = facts["output"]
    scaled = any(name.endswith("gamma_1") for name in encoder.state_dict())
    return {
        "img_size": encoder.image_size,
        "patch_size": encoder.patch_size,
        "embed_dim": encoder.embed_dim,
        "depth": encoder.depth,
        "num_heads": encoder.num_heads,
        "num_classes": output["shape"][-1] if output["what"] == "logits" else 0,
        "global_pool": "avg" if output["pooling"] == "mean" else "token",
        "init_values": 1.0 if scaled else None,
    }
