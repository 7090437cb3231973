"""Invalid overrides."""

import pytest

from tests.bad_input.toys import refused, rows

TRAIN = "DataLoader.Train"
CASES = rows(
    [
        ("Optimizer", "-o Optimizer: an override must be key=value, key+=value or ~key"),
        ("Optimizer.weight_decay 0.1", "an override must be key=value, key+=value or ~key"),
        ("=3", "'' is not a key path; join names by dots, like Optimizer.weight_decay"),
        (".=3", "'.' is not a key path"),
        ("Optimizer..beta1=0", "'Optimizer..beta1' is not a key path"),
        ("~", "-o ~: '' is not a key path"),
        ("~Optimizer.weigth_decay", "Optimizer.weigth_decay does not exist and cannot be deleted"),
        ("~Model.hed", "Model.hed does not exist and cannot be deleted; did you mean Model.head?"),
        ("~Global", "classify.yaml:1: Global: required, but missing"),
        ("~DataLoader.Train.dataset.root", f"{TRAIN}.dataset.root: ImageFolder needs the argument 'root'"),
        ("DataLoader.Train.loader=null", f"{TRAIN}.loader: required, but missing"),
        ("Loss=null", "classify.yaml:2: Loss: the task Classification needs this section"),
        ("Task.name.x=1", "Task.name is the text 'Classification', so no key can be set below it"),
        ("Model.encoder.depth.x=1", "Model.encoder.depth is 2, so no key can be set below it"),
        ("Metric.1.topk=[1]", "Metric has no item 1; its length is 1"),
        ("Metric.-2.topk=[1]", "Metric has no item -2; its length is 1"),
        ("Metric.Accuracy.topk=[1]", "Metric is a list of 1; address its items by index, not 'Accuracy'"),
        ("Metric.99999999999999999999=1", "Metric is a list of 1; address its items by index"),
        ("Model+=1", "Model is a mapping, so += cannot append to it"),
        ("Global.seed+=1", "Global.seed: expected a whole number, got a list [1]"),
        ("Model.head.num_classes+=1", "Model.head.num_classes is 2, so += cannot append to it"),
        ("Optimizer=[1", "-o Optimizer=[1: not valid YAML"),
        ("Optimizer={beta1: 0, beta1: 1}", "-o Optimizer={beta1: 0, beta1: 1}: duplicate key 'beta1'"),
        ("Optimizer={name:SGD}", "'name:SGD' is not a key with a value; put a space after the colon"),
        ("Optimizer={_delete_: yes}", "_delete_ can only be true, got 'yes'"),
        ("Optimizer=!!python/name:os.system x", "the tag", "is not allowed; a config must be plain YAML data"),
        ("Optimizer.weigth_decay=1", "Optimizer.weigth_decay: AdamW has no argument", "did you mean 'weight_decay'?"),
        ("optimizer.beta1=0", "there is no section 'optimizer'; did you mean 'Optimizer'?"),
        ("lr=0.1", "did you mean LRScheduler.learning_rate?"),
        ("batch_size=8", "did you mean DataLoader.Train.loader.batch_size?"),
        ("pretrained=x.pdparams", "did you mean Init.checkpoint?"),
        ("Model.depth=4", "Classifier has no argument 'depth'; did you mean Model.encoder.depth?"),
        ("Optimizer.model=1", "AdamW gets 'model' from the engine; remove it from the config"),
        ("LRScheduler.epochs=3", "WarmupCosine gets 'epochs' from the engine; remove it from the config"),
        ("Optimizer.beta1=0.5  Optimizer.name=SGD", "SGD has no argument 'beta1', written for AdamW before"),
        (
            "Optimizer  ~Foo  Global.x=1",
            "2 problems",
            "-o Optimizer: an override must be",
            "-o ~Foo: Foo does not exist",
        ),
        ("Global.x=1  AMP.y=2", "error: 2 problems", "Global has no key 'x'", "AMP has no key 'y'"),
    ]
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_invalid_override_is_refused(cli, case):
    refused(cli, ["train", "-c", "classify.yaml", "-o", *case.overrides], case.says)


def test_an_option_without_a_value_is_refused(cli):
    refused(cli, ["train", "-c", "classify.yaml", "-o"], ["argument -o/--override: expected at least one argument"])
    refused(cli, ["train"], ["plsc train: error: -c FILE is required"])
