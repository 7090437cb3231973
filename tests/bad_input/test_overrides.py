"""Overrides that are none, or reach nothing."""

import pytest

from tests.bad_input.toys import refused, rows

TRAIN = "DataLoader.Train"
CASES = rows(
    [
        ("Optimizer", "-o Optimizer: an override is key=value, key+=value or ~key"),
        ("Optimizer.weight_decay 0.1", "an override is key=value, key+=value or ~key"),
        ("=3", "'' is no key path; write names joined by dots, like Optimizer.weight_decay"),
        (".=3", "'.' is no key path"),
        ("Optimizer..beta1=0", "'Optimizer..beta1' is no key path"),
        ("~", "-o ~: '' is no key path"),
        ("~Optimizer.weigth_decay", "there is no Optimizer.weigth_decay to delete"),
        ("~Model.hed", "there is no Model.hed to delete; did you mean Model.head?"),
        ("~Global", "classify.yaml:1: Global: required, but missing"),
        ("~DataLoader.Train.dataset.root", f"{TRAIN}.dataset.root: ImageFolder needs the argument 'root'"),
        ("DataLoader.Train.loader=null", f"{TRAIN}.loader: required, but missing"),
        ("Loss=null", "classify.yaml:2: Loss: the task Classification needs this section"),
        ("Task.name.x=1", "Task.name is the text 'Classification', so nothing can be set below it"),
        ("Model.encoder.depth.x=1", "Model.encoder.depth is 2, so nothing can be set below it"),
        ("Metric.1.topk=[1]", "Metric has no item 1, its length is 1"),
        ("Metric.-2.topk=[1]", "Metric has no item -2, its length is 1"),
        ("Metric.Accuracy.topk=[1]", "Metric is a list of 1; address its items by index, not 'Accuracy'"),
        ("Metric.99999999999999999999=1", "Metric is a list of 1; address its items by index"),
        ("Model+=1", "Model is a mapping, so += cannot append to it"),
        ("Global.seed+=1", "Global.seed: expected a whole number, got a list [1]"),
        ("Model.head.num_classes+=1", "Model.head.num_classes is 2, so += cannot append to it"),
        ("Optimizer=[1", "-o Optimizer=[1: not valid YAML"),
        ("Optimizer={beta1: 0, beta1: 1}", "-o Optimizer={beta1: 0, beta1: 1}: duplicate key 'beta1'"),
        ("Optimizer={name:SGD}", "'name:SGD' is no key and value; put a space after the colon"),
        ("Optimizer={_delete_: yes}", "_delete_ can only be true, got 'yes'"),
        ("Optimizer=!!python/name:os.system x", "the tag", "is not allowed; a config is plain YAML data"),
        ("Optimizer.weigth_decay=1", "Optimizer.weigth_decay: AdamW has no argument", "did you mean 'weight_decay'?"),
        ("optimizer.beta1=0", "there is no section 'optimizer'; did you mean 'Optimizer'?"),
        ("lr=0.1", "did you mean LRScheduler.learning_rate?"),
        ("batch_size=8", "did you mean DataLoader.Train.loader.batch_size?"),
        ("pretrained=x.pdparams", "did you mean Init.checkpoint?"),
        ("Model.depth=4", "Classifier has no argument 'depth'; did you mean Model.encoder.depth?"),
        ("Optimizer.model=1", "AdamW gets 'model' from the engine; remove it from the config"),
        ("LRScheduler.epochs=3", "WarmupCosine gets 'epochs' from the engine; remove it from the config"),
        ("Optimizer.beta1=0.5  Optimizer.name=SGD", "SGD has no argument 'beta1', written for AdamW before"),
        ("Optimizer  ~Foo  Global.x=1", "2 problems", "-o Optimizer: an override is", "-o ~Foo: there is no Foo"),
        ("Global.x=1  AMP.y=2", "error: 2 problems", "Global has no key 'x'", "AMP has no key 'y'"),
    ]
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_override_that_reaches_nothing_is_refused(cli, case):
    refused(cli, ["train", "-c", "classify.yaml", "-o", *case.overrides], case.says)


def test_an_option_without_a_value_is_refused(cli):
    refused(cli, ["train", "-c", "classify.yaml", "-o"], ["argument -o/--override: expected at least one argument"])
    refused(cli, ["train"], ["plsc train: error: -c FILE is needed"])
