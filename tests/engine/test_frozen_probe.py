from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from plsc.checkpoint.reader import Checkpoint
from plsc.data.batch_transforms import ToFloat
from plsc.engine.callbacks.frozen_probe import FrozenProbe
from plsc.engine.callbacks.progress import ProgressLog
from plsc.evaluation.measures import feature_deviation, rankme
from plsc.models.encoder import Encoder
from plsc.nn.utils import inference
from tests.engine.toys import toy_trainer
from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data, metrics

PIXELS = ["Tokenizer={_delete_: true, name: PixelTarget, patch_size: 4}", "Model.vocab_size=48", "Loss.main=mse"]
PROBE = "Callbacks=[{name: FrozenProbe, every_epochs: 2, images: 12, batch_size: 5}]"


def pretrain(cli, images, output, *more):
    small = [*SMALL, *SMALL_ENCODER, *data(images, evaluation=False), *PIXELS, "Model.encoder.drop_path_rate=0.3"]
    settings = [*small, f"Global.output_dir={output}", "Global.epochs=3", "Global.log_every_steps=1", *more]
    code, _, errors = cli("train", "-c", ROOT / "configs/quickstart/pretrain.yaml", "-o", *settings)
    assert code == 0, errors
    return errors


def test_a_run_is_the_same_bit_for_bit_with_and_without_the_probe(toy_runs, cli, tmp_path):
    text = pretrain(cli, toy_runs.images, "with", PROBE)
    pretrain(cli, toy_runs.images, "without", "~Callbacks")
    assert "probe at epoch 2.00: knn_top1 " in text
    rows = metrics(tmp_path / "with", "probe")
    assert [row["epoch"] for row in rows] == [0, 2, 3]  # before the first step, every two epochs, at the end
    assert set(FrozenProbe.measures) <= set(rows[0])
    assert all(0 <= row["knn_top1"] <= 100 and 1 <= row["rankme"] <= 12 for row in rows)
    assert [row["loss"] for row in metrics(tmp_path / "with")] == [row["loss"] for row in metrics(tmp_path / "without")]
    saved = [Checkpoint.open(tmp_path / name) for name in ("with", "without")]
    for part in ("model", "optimizer"):
        left, right = (checkpoint.read(part) for checkpoint in saved)
        assert set(left) == set(right)
        for name, value in left.items():
            np.testing.assert_array_equal(value, right[name], err_msg=name)


def test_the_probe_chooses_the_best_checkpoint(toy_runs, cli, tmp_path):
    pretrain(cli, toy_runs.images, "run", PROBE.replace("every_epochs: 2", "every_epochs: 1"),
             "Global.monitor=rankme", "Global.monitor_mode=min")  # fmt: skip
    rows = [row for row in metrics(tmp_path / "run", "probe") if row["step"]]
    lowest = min(rows, key=lambda row: row["rankme"])
    assert Checkpoint.open(tmp_path / "run/checkpoints/best").path.name == f"step_{lowest['step']:08d}"


def test_a_monitor_that_is_not_measured_is_an_error_before_the_first_step(toy_runs, cli, tmp_path):
    small = [*SMALL, *SMALL_ENCODER, *data(toy_runs.images, evaluation=False), *PIXELS, "Global.output_dir=run", PROBE]
    code, _, errors = cli("train", "-c", ROOT / "configs/quickstart/pretrain.yaml", "-o", *small, "Global.monitor=top1")
    assert code == 2
    assert "top1 is not measured during the run, only knn_top1, ridge_top1, rankme, feature_std" in errors
    assert not (tmp_path / "run").exists()


class Brightness(Encoder):
    """Pixels as tokens; records its mode in every call."""

    image_size, num_prefix_tokens = (8, 8), 1

    def __init__(self):
        super().__init__()
        self.norm = paddle.nn.Identity()
        self.modes = []

    def forward_features(self, image):
        self.modes.append(self.training)
        tokens = image.reshape([image.shape[0], 3, -1]).transpose([0, 2, 1])
        return paddle.concat([tokens[:, :1] * 0, tokens], axis=1)


class Images:
    """Grey images of two classes, the second brighter."""

    def __init__(self, count=40, labels=True):
        self.count, self.labels = count, labels

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        from PIL import Image

        value = 20 + index % 5 + 200 * (index % 2)
        sample = {"image": Image.new("RGB", (12, 10), (value, value + index % 7, value)), "path": f"{index}.png"}
        return {**sample, "label": index % 2} if self.labels else sample


def toy(tmp_path, dataset, encoder=None):
    trainer = toy_trainer(tmp_path, steps=1)
    trainer.task.model = encoder or Brightness()
    trainer.task.train()
    trainer.loader.dataset = dataset
    trainer.train_step.batch_transforms = [
        ToFloat(key="image"),
        ToFloat(key="target_image"),
    ]  # the second is not for it
    return trainer


def probe_once(trainer, tmp_path, **options):
    probe = FrozenProbe(**options)
    probe.on_train_begin(trainer)
    return probe, metrics(tmp_path, "probe")[-1]


def test_metrics_of_the_probe(tmp_path):
    trainer = toy(tmp_path, Images())
    probe, row = probe_once(trainer, tmp_path, batch_size=7)
    assert row["knn_top1"] == row["ridge_top1"] == 100
    features, labels = probe._features(trainer)
    wanted = [np.mean(np.asarray(Images()[i]["image"]).reshape(-1, 3) / 255, axis=0) for i in range(40)]
    np.testing.assert_allclose(features, wanted, atol=1e-6)  # in the order of the images
    assert labels.tolist() == [0, 1] * 20
    assert row["rankme"] == pytest.approx(rankme(features)) and row["feature_std"] == feature_deviation(features)
    encoder = trainer.task.encoder
    assert not any(encoder.modes) and encoder.training and encoder.norm.training
    assert trainer.metrics.results is None  # no step was taken yet


def test_accuracy_is_at_chance_for_random_labels(tmp_path):
    class Shuffled(Images):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "label": int(np.random.default_rng(index).integers(2))}

    _, row = probe_once(toy(tmp_path, Shuffled(400)), tmp_path, images=400)
    assert 30 < row["knn_top1"] < 70 and 30 < row["ridge_top1"] < 70


def test_labelled_images_may_come_from_a_folder(toy_runs, tmp_path):
    trainer = toy(tmp_path, Images(labels=False))
    _, row = probe_once(trainer, tmp_path, data=str(toy_runs.images / "val"))
    assert row["step"] == 0 and row["knn_top1"] > 0


def test_data_and_encoders_that_cannot_be_probed_are_errors(tmp_path):
    with pytest.raises(ValueError, match="the images have no labels; set data to a folder"):
        probe_once(toy(tmp_path, Images(labels=False)), tmp_path)
    with pytest.raises(ValueError, match="the data has 7 images; it needs 8"):
        probe_once(toy(tmp_path, Images(7)), tmp_path)
    with pytest.raises(ValueError, match="Linear, the encoder of ToyTask, has no token features"):
        probe_once(toy(tmp_path, Images(), paddle.nn.Linear(2, 2)), tmp_path)
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        FrozenProbe(neighbours=0)


def test_a_stop_request_interrupts_the_probe(tmp_path):
    from plsc.engine.interrupt import Interrupted

    trainer = toy(tmp_path, Images())
    trainer.stop_request = SimpleNamespace(pending=lambda: True, signal_number=15)
    with pytest.raises(Interrupted):
        probe_once(trainer, tmp_path)
    assert trainer.task.encoder.training


def test_inference_restores_the_mode_of_every_layer():
    layer = paddle.nn.Sequential(paddle.nn.Linear(2, 2), paddle.nn.Dropout())
    layer[0].training = False
    with pytest.raises(ZeroDivisionError), inference(layer):
        assert not (layer.training or layer[1].training)
        _ = 1 / 0
    assert (layer.training, layer[0].training, layer[1].training) == (True, False, True)


def test_time_of_the_probe_does_not_count_as_training(tmp_path, monkeypatch):
    restarted = []
    progress = ProgressLog(1)
    monkeypatch.setattr(progress, "restart_clock", lambda: restarted.append(True))
    trainer = toy(tmp_path, Images())
    trainer.callbacks = [progress, FrozenProbe()]
    probe_once(trainer, tmp_path)
    assert restarted == [True]
