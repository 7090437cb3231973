"""Small tasks for tests of optimizers."""

import numpy as np
import paddle
from paddle import nn

import plsc.nn.network
from plsc.tasks.base import Task


class Encoder(nn.Layer):
    """Encoder of two depths: an embedding with a token, and a block; then a norm."""

    num_layers = 3

    def __init__(self, width=4):
        super().__init__()
        self.cls_token = self.create_parameter([1, 1, width])
        self.embed = nn.Linear(3, width)
        self.block = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.register_buffer("seen", paddle.zeros([], "int64"))
        self.register_buffer("table", paddle.ones([1, 1, width]), persistable=False)

    def layer_index(self, name):
        return 0 if name.startswith(("cls_token", "embed.")) else 1 if name.startswith("block.") else 2

    def forward(self, image):
        return self.norm(self.block(paddle.tanh(self.embed(image)) + self.cls_token[0] + self.table[0]))


class Network(plsc.nn.network.Network):
    """An encoder, a head, and a branch that only some steps use."""

    num_layers = 3

    def __init__(self, width=4, classes=5):
        super().__init__()
        self.encoder = Encoder(width)
        self.head = nn.Linear(width, classes)
        self.branch = nn.Linear(width, classes)

    def layer_index(self, name):
        return self.encoder.layer_index(name[8:]) if name.startswith("encoder.") else 2

    def forward(self, image, use_branch=False):
        features = self.encoder(image)
        return self.head(features) + (self.branch(features) if use_branch else 0.0)


def toy_task(seed=0, width=4):
    """A task; its tensors get new global names each time it is built."""
    paddle.seed(seed)
    return Task(Network(width))


def images(step, count=6):
    """Float images (count, 3) of a step."""
    return paddle.to_tensor(np.random.default_rng(step).normal(size=(count, 3)).astype("float32"))


def set_gradients(task, step, use_branch=False):
    """Set the gradients of a loss for the images of a step."""
    (task.model(images(step), use_branch) ** 2).mean().backward()


def values(layer):
    """Parameters and buffers as arrays, by structured name."""
    return {name: value.numpy().copy() for name, value in layer.state_dict().items()}
