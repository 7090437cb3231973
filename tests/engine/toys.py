"""A small task, optimizer and loader."""

from types import SimpleNamespace

import numpy as np
import paddle
from paddle import nn

from plsc.config.settings import AMP
from plsc.data.bad_images import BadImages
from plsc.engine.plan import Plan
from plsc.engine.step import TrainStep
from plsc.engine.trainer import Trainer
from plsc.nn.precision import Precision
from plsc.optim.optimizers import SGD
from plsc.runs.log import RunLog
from plsc.tasks.base import Task


class ToyTask(Task):
    """Regresses the mean of an image; records every call of the engine."""

    def __init__(self, dropout=0.0):
        super().__init__(nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 1)))
        self.calls = []

    def prepare(self, batch):
        self.calls.append("prepare")
        return {**batch, "target": batch["image"].mean(axis=1, keepdim=True)}

    def forward(self, batch):
        self.calls.append("forward")
        return {"loss": ((self.model(batch["image"]) - batch["target"]) ** 2).mean()}

    def before_step(self, progress):
        self.calls.append("before_step")

    def on_step_end(self, progress):
        self.calls.append("on_step_end")


class ToyOptimizer(SGD):
    """SGD that records its calls."""

    def __init__(self, model):
        super().__init__(model)
        self.task = model

    def clip_gradients(self):
        self.task.calls.append("clip")
        return super().clip_gradients()

    def step(self):
        self.task.calls.append("step")
        super().step()


class ToyLoader:
    """Images that are a function of (epoch, step)."""

    num_workers = 0

    def __init__(self, steps=4, batch_size=2, accumulate=1):
        self.steps_per_epoch, self.batch_size, self.accumulate = steps, batch_size, accumulate
        self.position = (0, 0)
        self.dataset = range(steps * batch_size * accumulate)  # images without labels
        self.sampler = SimpleNamespace(shuffle=None)
        self.bad_images = BadImages()

    def set_position(self, epoch, step):
        self.position = (epoch, step)

    def __iter__(self):
        epoch, first = self.position
        for step in range(first, self.steps_per_epoch):
            rng = np.random.default_rng([epoch, step])
            images = rng.normal(size=(self.accumulate, self.batch_size, 4)).astype("float32")
            yield from ({"image": paddle.to_tensor(micro)} for micro in images)


def toy_trainer(tmp_path, *, steps=8, dropout=0.0, callbacks=(), accumulate=1, batch_size=2, transforms=(), save=None):
    paddle.seed(3)
    task = ToyTask(dropout)
    loader = ToyLoader(batch_size=batch_size, accumulate=accumulate)
    log = RunLog(progress="none")
    log.open(tmp_path)
    plan = Plan(loader.steps_per_epoch, steps, steps, accumulate, batch_size * accumulate)
    optimizer, schedule = ToyOptimizer(task), lambda step: 0.1 / (1 + step)
    train_step = TrainStep(task, optimizer, schedule, transforms, Precision(AMP()), plan.total_steps)
    return Trainer(train_step, loader, plan, callbacks, log, save)
