"""Evaluation of a checkpoint."""

from typing import Dict

from plsc.checkpoint.reader import Checkpoint
from plsc.config.run_config import RunConfig
from plsc.config.tree import ConfigError, blamed_on
from plsc.engine import consistency
from plsc.engine.device import join_job
from plsc.engine.parts import build_evaluation
from plsc.inference.restore import restore_task
from plsc.nn.precision import Precision


def evaluate_checkpoint(config: RunConfig, checkpoint: Checkpoint, ema: bool = False) -> Dict[str, float]:
    """Evaluate a saved task on `DataLoader.Eval`.

    Args:
        config: RunConfig that the checkpoint was trained with.
        checkpoint: The checkpoint.
        ema: Evaluate the moving average of the weights.

    Returns:
        Metrics by name.

    Raises:
        ConfigError: If the config has no evaluation set, or the checkpoint no moving average.
    """
    if not config.evaluates:
        raise ConfigError("DataLoader.Eval: the config has no evaluation set; give one with -o DataLoader.Eval=...")
    join_job(config)
    consistency.agree_on_checkpoint("the checkpoint", lambda: checkpoint)
    restored = restore_task(config, checkpoint, ema)
    precision, known = Precision(config.amp), (restored.classes, str(checkpoint))
    evaluator = build_evaluation(config, restored.task, precision, known=known)
    consistency.agree_on_data(Eval=evaluator.loader.dataset)
    consistency.check_evaluation(config, restored.task, evaluator)
    sections = "the checkpoint, Metric and DataLoader.Eval"
    with blamed_on(config["DataLoader"]["Eval"]), consistency.first_time("the evaluation", sections):
        return evaluator()
