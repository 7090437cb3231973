"""The checked config of a run: one object that is made once and handed on to every part of the program."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Dict, Iterator, List, Mapping

from plsc.config import settings
from plsc.config.schema import check, read_settings
from plsc.config.tree import ConfigMap


class RunConfig(Mapping[str, Any]):
    """A checked config: a mapping of its sections, with the sections of plain values as typed settings.

        config = RunConfig.checked(files.load("configs/quickstart/pretrain.yaml"))
        config.global_.seed, config.loader("Train").batch_size, config["Model"]["name"]

    The settings are read once, when they are first asked for.

    Args:
        tree: A tree that plsc.config.schema.check has accepted, or that was made from such a tree. It must not change.
    """

    def __init__(self, tree: ConfigMap) -> None:
        self.tree = tree
        self._loaders: Dict[str, settings.Loader] = {}

    @classmethod
    def checked(cls, tree: ConfigMap) -> RunConfig:
        """Check a tree; the components that it names must be registered, see plsc.config.plugins.

        Raises:
            ConfigError: With one message for each problem, in the order of the file.
        """
        check(tree)
        return cls(tree)

    def __getitem__(self, section: str) -> Any:
        return self.tree[section]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tree)

    def __len__(self) -> int:
        return len(self.tree)

    @cached_property
    def global_(self) -> settings.Global:
        """Section `Global`."""
        return read_settings(self.tree, "Global")

    @cached_property
    def amp(self) -> settings.AMP:
        """Section `AMP`."""
        return read_settings(self.tree, "AMP")

    @cached_property
    def ema(self) -> settings.EMA:
        """Section `EMA`."""
        return read_settings(self.tree, "EMA")

    @cached_property
    def strategy(self) -> settings.DistributedStrategy:
        """Section `DistributedStrategy`."""
        return read_settings(self.tree, "DistributedStrategy")

    @cached_property
    def init(self) -> settings.Init:
        """Section `Init`."""
        return read_settings(self.tree, "Init")

    def loader(self, split: str) -> settings.Loader:
        """Section `DataLoader.<split>.loader`.

        Args:
            split: `Train` or `Eval`.
        """
        if split not in self._loaders:
            self._loaders[split] = read_settings(self.tree, f"DataLoader.{split}.loader")
        return self._loaders[split]

    @property
    def evaluates(self) -> bool:
        """True if there is an evaluation set, `DataLoader.Eval`."""
        return self.tree["DataLoader"].get("Eval") is not None

    def nodes(self, path: str) -> List[Any]:
        """List of components at a key path, such as `Callbacks` or `DataLoader.Eval.transforms`; empty if missing."""
        node: Any = self.tree
        for key in path.split("."):
            node = (node or {}).get(key)
        return node or []
