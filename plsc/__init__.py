"""plsc: self-supervised vision on PaddlePaddle, driven by YAML."""

__version__ = "0.1.0"
