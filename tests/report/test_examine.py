import numpy as np
import pytest

from plsc.checkpoint.reader import Checkpoint
from plsc.inference.restore import restore
from plsc.report.examine import examine


def test_a_classifier_is_examined(toy_runs):
    saved = restore(toy_runs.classifier)
    found = examine(saved.config, saved.task, examples=3)
    assert found.classes == ["0", "1"] and found.matrix.sum() == 12
    assert found.bins[:, 0].sum() == 12 and 0 <= found.ece <= 100
    assert found.points.shape == (12, 2) and found.point_labels.tolist() == [0] * 6 + [1] * 6
    wrong = int(found.matrix.sum() - np.trace(found.matrix))
    assert len(found.worst) == min(3, wrong) and len(found.best) == min(3, 12 - wrong)
    assert all(one.label != one.predicted for one in found.worst)
    assert all(one.label == one.predicted and one.image.shape == (32, 32, 3) for one in found.best)
    assert all(f"/val/{one.label}/" in one.file for one in found.worst + found.best)


def test_the_matrix_agrees_with_the_metric(toy_runs):
    from plsc.inference.evaluate import evaluate_checkpoint

    saved = restore(toy_runs.classifier)
    found = examine(saved.config, saved.task)
    top1 = evaluate_checkpoint(saved.config, Checkpoint(saved.path))["top1"]
    assert 100 * np.trace(found.matrix) / found.matrix.sum() == pytest.approx(top1)


def test_pre_training_has_features_only(toy_runs):
    saved = restore(toy_runs.pretrain)
    found = examine(saved.config, saved.task, most_images=8)
    assert found.matrix is None and found.worst == []
    assert found.images == "8 of 12 training images." and found.points.shape == (8, 2)


def test_a_missing_data_set_is_a_note(toy_runs):
    saved = restore(toy_runs.classifier, ["DataLoader.Eval.dataset.root=nowhere"])
    (note,) = examine(saved.config, saved.task).notes
    assert "DataLoader.Eval.dataset: nowhere: there is no such folder" in note
