"""Evaluation during training."""

from typing import Any, Callable, Dict, Optional

from plsc.engine.callback import Callback
from plsc.engine.callbacks.progress import MOST_IN_LINE, restart_clock
from plsc.engine.trainer import Trainer


class Evaluation(Callback):
    """Evaluates every k epochs and at the end, and records the metrics for `Global.monitor`.

    Args:
        run: Evaluates and returns metrics by name; `on_batch` is called after each batch.
        every_epochs: None: only at the end.
        ema: Moving average of the weights, also evaluated, under the split `eval_ema`, and recorded instead; None: no
            average.
        dataset: Evaluation set, compared with that of a checkpoint; None: unknown.
    """

    def __init__(
        self,
        run: Callable[..., Dict[str, float]],
        every_epochs: Optional[int],
        ema: Any = None,
        dataset: Any = None,
    ) -> None:
        self.run = run
        self.dataset = dataset
        self.every_epochs = every_epochs
        self.ema = ema

    def on_step_end(self, trainer: Trainer) -> None:
        epoch_due = self.every_epochs and trainer.at_epoch_end and round(trainer.epoch) % self.every_epochs == 0
        if epoch_due or trainer.finished:
            self._evaluate(trainer)

    def _evaluate(self, trainer: Trainer) -> None:
        found = {"eval": self._measure(trainer, "eval")}
        if self.ema is not None:
            with self.ema.swap(trainer.task):
                found["eval_ema"] = self._measure(trainer, "eval_ema")
        for split, results in found.items():  # after the last one: a signal before it repeats the evaluation
            self._log(trainer, split, results)
        trainer.metrics.record(results)
        restart_clock(trainer)

    def _measure(self, trainer: Trainer, split: str) -> Dict[str, float]:
        try:
            return self.run(on_batch=trainer.stop_if_asked)
        except FloatingPointError as error:  # training continues: Global.on_nonfinite decides about it
            trainer.log.say(f"{split} at epoch {trainer.epoch:.2f} gives no metrics: {error}")
            return {}

    def _log(self, trainer: Trainer, split: str, results: Dict[str, float]) -> None:
        if not results:
            return
        text = "  ".join(f"{name} {value:.4g}" for name, value in list(results.items())[:MOST_IN_LINE])
        more = f"  and {len(results) - MOST_IN_LINE} more in metrics.jsonl" if len(results) > MOST_IN_LINE else ""
        line = f"{split} at epoch {trainer.epoch:.2f}: {text}{more}"
        trainer.log.record(split, trainer.step, trainer.epoch, results, line)
