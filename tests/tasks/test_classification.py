import pytest

from tests.integration.runs import ROOT, SMALL, SMALL_ENCODER, data


@pytest.mark.parametrize("classes", [1, 7])
def test_a_wrong_number_of_classes_of_a_grid_is_seen_before_training(toy_runs, cli, classes):
    options = [*SMALL, *SMALL_ENCODER, *data(toy_runs.images), f"Init.checkpoint={toy_runs.pretrain}"]
    options += [f"Model.num_classes={classes}", "Global.output_dir=run", "Global.max_train_step=1"]
    code, _, err = cli("train", "-c", ROOT / "configs/quickstart/lingrid.yaml", "-o", *options)
    assert "IndexError" not in err and "Traceback" not in err
    if classes == 1:
        assert code == 2 and "2 classes, but the model" in err and "set the num_classes of Model to 2" in err
    else:
        assert code == 0 and "note: the training set has 2 classes" in err
