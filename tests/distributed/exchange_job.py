"""Program of each process of a job of two: checks the reducer's mean gradients and its error messages."""

import sys

import numpy as np
import paddle

from plsc import distributed
from plsc.config.settings import DistributedStrategy
from tests.optim.toys import images, toy_task

FIRST, LAST = 0, 1  # micro-batches of a step


def loss(outputs):
    return (outputs**2).mean()


def own_images(step, part):
    return images(100 * step + 10 * part + distributed.rank())


def averaged(exchange, step):
    """Return the gradients of a step of two micro-batches, averaged by the exchange."""
    loss(exchange.layer(own_images(step, FIRST), True)).backward()
    loss(exchange.forward(own_images(step, LAST))).backward()
    exchange.finish()
    return gradients(exchange)


def expected(exchange, step):
    """Return the gradients of the images of all processes, computed by this process."""
    for rank in range(distributed.world_size()):
        for part in (FIRST, LAST):
            whole = loss(exchange.layer(images(100 * step + 10 * part + rank), True))
            (whole / distributed.world_size()).backward()
    return gradients(exchange)


def gradients(exchange):
    found = [parameter.grad.numpy().copy() for parameter in exchange.parameters]
    for parameter in exchange.parameters:
        parameter.clear_gradient(False)
    return found


class Always(paddle.nn.Layer):
    """Toy network, by default with its branch."""

    def __init__(self):
        super().__init__()
        self.model = toy_task().model
        self.use_branch = True

    def forward(self, image, use_branch=None):
        return self.model(image, self.use_branch if use_branch is None else use_branch)


class Recomputing(paddle.nn.Layer):
    """Stem that is recomputed in the backward pass without a setting in the config."""

    def __init__(self):
        super().__init__()
        self.stem = paddle.nn.Linear(3, 4)
        self.head = paddle.nn.Linear(4, 5)

    def forward(self, image):
        image.stop_gradient = False
        return self.head(distributed.recompute(self.stem, image))


def refusal(exchange):
    try:
        exchange.finish()
    except ValueError as error:
        print(f"refused: {error}")


def main():
    distributed.setup(DistributedStrategy(overlap=True, bucket_mb=1))
    layer = Always()
    exchange = distributed.GradientExchange(layer, layer.parameters())
    for step in range(3):
        for ours, wanted in zip(averaged(exchange, step), expected(exchange, step)):
            np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-6)
    layer.use_branch = False
    loss(exchange.forward(own_images(9, LAST))).backward()
    refusal(exchange)
    layer = Recomputing()
    exchange = distributed.GradientExchange(layer, layer.parameters())
    loss(exchange.forward(own_images(9, LAST))).backward()
    refusal(exchange)
    print("done")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
