"""Values out of range, and sections that are valid alone but not together."""

import pytest

from tests.bad_input.toys import refused, rows, trains

TRAIN, EVAL = "DataLoader.Train", "DataLoader.Eval"
MIXUP = "DataLoader.Train.batch_transforms+={name: MixupCutmix, num_classes: %s}"
STEPS = "LRScheduler={_delete_: true, name: WarmupStep, learning_rate: 0.1, %s}"
TOKENIZER = "Task={_delete_: true, name: TokenizerTraining}  Loss=null"
PIXELS = "Tokenizer={_delete_: true, name: PixelTarget, patch_size: %s}"
BLOCKS = "MaskGenerator={_delete_: true, name: BlockMask, grid: 4, num_masked: 8, %s}"

CLASSIFY = rows(
    [
        # ------------------------------------------------------------------------------------------- the encoder
        ("Model.encoder.patch_size=5", "-o Model.encoder.patch_size=5: Model.encoder: ", "image_size (16, 16) is no"),
        ("Model.encoder.patch_size=0", "Model.encoder: patch_size must be a positive whole number or two of them"),
        ("Model.encoder.image_size=[16,0]", "Model.encoder: image_size must be a positive whole number or two of them"),
        ("Model.encoder.num_heads=3", "Model.encoder: num_heads must divide the width: 16 does not divide into 3"),
        ("Model.encoder.num_heads=0", "Model.encoder: num_heads must be at least 1, got 0"),
        ("Model.encoder.embed_dim=0", "Model.encoder: embed_dim must be at least 1, got 0"),
        ("Model.encoder.embed_dim=-16", "Model.encoder: embed_dim must be at least 1, got -16"),
        ("Model.encoder.embed_dim=18", "sin-cos positions need a width that is a multiple of 4, got 18"),
        ("Model.encoder.embed_dim=100000000000", "Model.encoder: cannot build ViT with these arguments: "),
        ("Model.encoder.depth=0", "-o Model.encoder.depth=0: Model.encoder: depth must be at least 1, got 0"),
        ("Model.encoder.mlp_ratio=-1", "Model.encoder: mlp_ratio must be above 0, got -1"),
        ("Model.encoder.mlp_ratio=.nan", "Model.encoder.mlp_ratio: expected a number, got .nan; it must be finite"),
        ("Model.encoder.drop_rate=1", "Model.encoder: drop_rate must be in [0, 1), got 1"),
        ("Model.encoder.drop_path_rate=-0.1", "Model.encoder: drop_path_rate must be in [0, 1), got -0.1"),
        ("Model.encoder.attn_drop_rate=1.5", "Model.encoder: attn_drop_rate must be in [0, 1), got 1.5"),
        ("Model.encoder.norm_eps=0", "Model.encoder: norm_eps must be above 0, got 0"),
        ("Model.encoder.norm_eps=1", "Model.encoder: norm_eps must be at most 0.001, which is Paddle's limit, got 1"),
        ("Model.encoder.qk_scale=0", "Model.encoder: qk_scale must be above 0, got 0"),
        ("Model.encoder.in_channels=0", "Model.encoder: in_channels must be at least 1, got 0"),
        ("Model.encoder.in_channels=1", "built for images of 1 channels, got 3; set Model's in_channels to 3"),
        ("Model.encoder.image_size=32", "built for images of (32, 32) (height, width), got (16, 16); change the crop"),
        # ---------------------------------------------------------------------------------------------- the head
        ("Model.head.in_features=32", "the encoder gives 16; set Model.head.in_features to 16"),
        ("Model.head.num_classes=0", "Model.head: num_classes must be at least 1, got 0"),
        (
            "Model.head.num_classes=1",
            f"{TRAIN}.dataset: the dataset has 2 classes, but the model has 1 output; set the num_classes",
        ),
        ("Model.head.init_std=-1", "Model.head: init_std must be above 0, got -1"),
        ("Model.head.batch_norm_eps=0", "Model.head: batch_norm_eps must be above 0, got 0"),
        ("Model.pooling=tokens", "Model: pooling: tokens does not go with a LinearHead; set pooling to mean or cls"),
        (
            "Model.head={_delete_: true, name: AttentiveHead, in_features: 16, num_classes: 2, num_heads: 2}",
            "Model: pooling: mean does not go with a AttentiveHead; set pooling to tokens",
        ),
        (
            "Model.head={_delete_: true, name: AttentiveHead, in_features: 16, num_classes: 2}  Model.pooling=tokens",
            "Model.head: num_heads must divide the width: 16 does not divide into 12 heads",
        ),
        (
            "Model.head={_delete_: true, name: AttentiveHead, in_features: 16, num_classes: 2, num_heads: 2, "
            "qk_scale: 0}  Model.pooling=tokens",
            "Model.head: qk_scale must be above 0, got 0",
        ),
        (
            "Model.head={_delete_: true, name: EfficientProbingHead, in_features: 16, num_classes: 2}",
            "Model.head: 16 channels of values do not divide into 32 queries; set num_queries or out_features",
        ),
        ("Model.encoder.pos_embed=none  Model.pooling=positioned_tokens", "Model: pooling: positioned_tokens"),
        # --------------------------------------------------------------------------------------- task and losses
        ("Loss.label_smoothing=1", "Loss: label_smoothing must be in [0, 1), got 1"),
        ("Loss={_delete_: true, name: CAELoss}", "so Model, Loss and DataLoader.Train may not fit each other"),
        ("Task={_delete_: true, name: MaskedImageModeling}", "Tokenizer: the task MaskedImageModeling needs this"),
        (TOKENIZER, "Task: needs a model that makes tokens, such as DiscreteVAE, got a Classifier"),
        # --------------------------------------------------------------------------------------------- optimizer
        ("Optimizer.weight_decay=-1", "-o Optimizer.weight_decay=-1: Optimizer: weight_decay must be at least 0, got"),
        ("Optimizer.weight_decay=.nan", "Optimizer.weight_decay: expected a number, got .nan; it must be finite"),
        ("Optimizer.weight_decay_end=-1", "Optimizer: weight_decay_end must be at least 0, got -1"),
        ("Optimizer.beta1=1", "Optimizer: beta1 must be in [0, 1), got 1"),
        ("Optimizer.beta2=-0.1", "Optimizer: beta2 must be in [0, 1), got -0.1"),
        ("Optimizer.epsilon=0", "Optimizer: epsilon must be above 0, got 0"),
        ("Optimizer.clip_norm=0", "Optimizer: clip_norm must be above 0, got 0"),
        ("Optimizer.clip_norm=.inf", "Optimizer.clip_norm: expected a number or null, got .inf", "or null for none"),
        ("Optimizer.layer_decay=0", "Optimizer: layer_decay must be in (0, 1] (or null), got 0"),
        ("Optimizer.layer_decay=1.5", "Optimizer: layer_decay must be in (0, 1] (or null), got 1.5"),
        ("Optimizer={_delete_: true, name: SGD, momentum: 1}", "Optimizer: momentum must be in [0, 1), got 1"),
        ("Optimizer={_delete_: true, name: LARS, momentum: -1}", "Optimizer: momentum must be in [0, 1), got -1"),
        ("Optimizer={_delete_: true, name: LARS, trust_coefficient: 0}", "trust_coefficient must be above 0, got 0"),
        # ---------------------------------------------------------------------------------------------- schedule
        ("LRScheduler.learning_rate=-1", "LRScheduler: learning_rate must be above 0, got -1"),
        ("LRScheduler.learning_rate=0", "LRScheduler: learning_rate must be above 0, got 0"),
        ("LRScheduler.learning_rate=.nan", "LRScheduler.learning_rate: expected a number, got .nan"),
        ("LRScheduler.learning_rate=.inf", "LRScheduler.learning_rate: expected a number, got .inf"),
        ("LRScheduler.warmup_epochs=2", "LRScheduler: warmup_epochs is 2, but the run has 1 epochs; shorten the"),
        ("LRScheduler.warmup_epochs=-1", "LRScheduler: warmup_epochs must be at least 0, got -1"),
        ("LRScheduler.warmup_start=-1", "LRScheduler: warmup_start must be at least 0, got -1"),
        ("LRScheduler.warmup_start=5", "LRScheduler: warmup_start must be at most the learning_rate 0.001, got 5"),
        ("LRScheduler.min_lr=-1", "LRScheduler: min_lr must be at least 0, got -1"),
        ("LRScheduler.scale=per_256  LRScheduler.warmup_start=1e-4", "warmup_start must be at most the learning_rate"),
        (STEPS % "milestones: [3, 1]", "LRScheduler: milestones must be above 0 and ascending, got [3, 1]"),
        (STEPS % "milestones: [0]", "LRScheduler: milestones must be above 0 and ascending, got [0]"),
        (STEPS % "milestones: [1], gamma: 0", "LRScheduler: gamma must be above 0, got 0"),
        # ----------------------------------------------------------------------------------------------- the run
        ("Global.epochs=0", "Global: epochs must be more than 0, got 0"),
        ("Global.epochs=.inf", "Global.epochs: expected a number or null, got .inf; it must be finite"),
        ("Global.epochs=null", "Global: set the length of the run by either epochs or steps"),
        ("Global.steps=3", "Global: set the length of the run by either epochs or steps, and set the other to null"),
        ("Global.steps=0  Global.epochs=null", "Global.steps: must be at least 1, got 0"),
        ("Global.seed=-1", "Global.seed: must be at least 0, got -1"),
        ("Global.keep_last=0", "Global.keep_last: must be at least 1, got 0"),
        ("Global.num_threads=0", "Global.num_threads: must be at least 1, got 0"),
        ("Global.num_threads=100000", "Global.num_threads: must be at most 1024, got 100000"),
        ("DataLoader.Train.loader.num_workers=100000", "loader.num_workers: must be at most 1024, got 100000"),
        ("DataLoader.Train.loader.prefetch=100000", "loader.prefetch: must be at most 1024, got 100000"),
        ("Global.device=tpu", "Global.device: expected one of auto, cpu, gpu, got the text 'tpu'"),
        ("Global.profile={start: 3}", "Global: profile must have two optimizer steps"),
        ("Global.monitor=top5", "Global: monitor: top5 is not measured during the run, only top1; change monitor"),
        ("Global.monitor=top1  Metric=null", "Global: monitor: top1 is not measured during the run, only loss"),
        (
            "Global.monitor=top1  DataLoader.Eval=null",
            "top1 is not measured during the run: DataLoader.Eval is missing",
        ),
        ("Global.output_dir=", "Global.output_dir: expected text, got null"),
        ("Global.output_dir=classify.yaml", "cannot be an output directory: classify.yaml is a file; set Global"),
        ("Global.output_dir=classify.yaml/out", "classify.yaml/out cannot be an output directory: "),
        ("AMP.level=O3", "AMP.level: expected one of O0, O1, O2, got the text 'O3'"),
        ("AMP.dtype=float8", "AMP.dtype: expected one of auto, float16, bfloat16, got the text 'float8'"),
        ("AMP.init_loss_scaling=0", "AMP: init_loss_scaling must be at least 1, got 0"),
        ("EMA.decay=1", "EMA: decay must be in [0, 1), got 1"),
        ("EMA.decay=-0.5", "EMA: decay must be in [0, 1), got -0.5"),
        ("EMA.decay=.nan", "EMA.decay: expected a number or null, got .nan; it must be finite"),
        ("DistributedStrategy.recompute=[nothing.*]", "DistributedStrategy.recompute: 'nothing.*' matches no layer"),
        # ----------------------------------------------------------------------------------------------- batches
        (f"{TRAIN}.loader.batch_size=9", f"{TRAIN}.loader: the dataset has 8 samples, fewer than one global batch of"),
        (f"{TRAIN}.loader.batch_size=0", f"{TRAIN}.loader.batch_size: must be at least 1, got 0"),
        (f"{TRAIN}.loader.num_workers=-1", f"{TRAIN}.loader.num_workers: must be at least 0, got -1"),
        ("Global.accumulate_steps=3", "the dataset has 8 samples, fewer than one global batch of 12"),
        ("Global.global_batch_size=6", "Global.global_batch_size: 6 is not a multiple of 4 (4 images x 1 processes)"),
        (f"{TRAIN}.loader.drop_last=false  Global.accumulate_steps=2", f"{TRAIN}.loader: drop_last: false would give"),
        (f"{MIXUP % 2}  {TRAIN}.loader.batch_size=1", "one image in the batch and nothing to mix it with"),
        (MIXUP % 3, f"{TRAIN}.batch_transforms.1: num_classes is 3, but the model has 2 outputs; set it to"),
        (MIXUP % 0, f"{TRAIN}.batch_transforms.1: num_classes is 0, but the model has 2 outputs"),
        (MIXUP % "2, prob: 2", f"{TRAIN}.batch_transforms.1: prob must be in [0, 1], got 2"),
        (MIXUP % "2, label_smoothing: 1", f"{TRAIN}.batch_transforms.1: label_smoothing must be in [0, 1), got 1"),
        (MIXUP % "2, mixup_alpha: 0, cutmix_alpha: 0", "mixup_alpha and cutmix_alpha must not be negative, and one"),
        (f"{TRAIN}.batch_transforms=[]", "images are paddle.uint8, not float; add the batch transform"),
        (f"{TRAIN}.batch_transforms+={{name: Normalize}}", "Normalize: 'image' is", "convert it only once"),
        (f"{TRAIN}.batch_transforms.0.key=foo", "Normalize: the batch has no 'foo'; it has image, index, label"),
        (f"{TRAIN}.batch_transforms.0.std=[0,1,1]", f"{TRAIN}.batch_transforms.0: Normalize: mean and std are one"),
        (f"{TRAIN}.batch_transforms.0.mean=[123.7]", f"{TRAIN}.batch_transforms.0: Normalize: mean and std are of"),
        (f"{TRAIN}.batch_transforms.0.std=[58.4]", "divide numbers for pixels in 0..255 by 255"),
        (f"{TRAIN}.batch_transforms.0.mean=[1,2]", "mean and std are one number or three", "got mean [1, 2]"),
        (f"{TRAIN}.batch_transforms+={{name: RandomErasing, min_area: 2}}", "needs 0 < min_area <= max_area <= 1"),
        (f"{TRAIN}.transforms=[]", "built for images of (16, 16) (height, width), got (20, 20); change the crop size"),
        (f"{TRAIN}.transforms.0.size=0", f"{TRAIN}.transforms.0: RandomResizedCrop: a size must be at least 1 pixel"),
        (f"{TRAIN}.transforms.0.scale=[1,0.2]", f"{TRAIN}.transforms.0: scale must be two fractions of the area"),
        (f"{TRAIN}.transforms.0.ratio=[0,1]", f"{TRAIN}.transforms.0: ratio must be two values of width / height"),
        (f"{TRAIN}.transforms+={{name: RandAugment, policy: strong}}", f"{TRAIN}.transforms.1: RandAugment: the"),
        (f"{TRAIN}.transforms+={{name: RandAugment, fill: [123, 116, 103]}}", "fill must be three values in [0, 1]"),
        (f"{TRAIN}.transforms+={{name: ColorJitter, hue: 1}}", "ColorJitter: hue must be in [0.0, 0.5], got 1"),
        (f"{TRAIN}.transforms+={{name: CenterCrop, size: 32, crop_ratio: null}}", "has 16 x 16 pixels, smaller than"),
        # -------------------------------------------------------------------------------------------- evaluation
        (f"{EVAL}.transforms.0.size=32", f"{EVAL}: the model was built for images of (16, 16) (height, width), got"),
        (f"{EVAL}.transforms.0.crop_ratio=2", f"{EVAL}.transforms.0: CenterCrop: crop_ratio must be in [0.01, 1.0],"),
        (f"{EVAL}.batch_transforms=[]", f"{EVAL}: images are paddle.uint8, not float; add the batch transform"),
        (f"{EVAL}.batch_transforms+={{name: MixupCutmix, num_classes: 2}}", "leave mixup out of DataLoader.Eval"),
        ("Metric.0.topk=[1,1]", "Metric.0: topk has a number twice, got [1, 1]"),
        ("Metric+={name: Accuracy, topk: [1]}", "Metric.1: top1 is measured by a metric before it, one value would"),
        ("Metric=[{name: CrossEntropyMetric}, {name: CrossEntropyMetric}]", "Metric.1: loss is measured by a metric"),
        ("Callbacks=[{name: FrozenProbe}, {name: FrozenProbe}]", "Callbacks: feature_std is measured twice"),
        ("Metric.0.topk=[]", "Metric.0: topk needs numbers of at least 1, got []"),
        ("Metric+={name: ClassAccuracy, num_classes: 7}", "Metric.1: num_classes is 7, but the model has 2 outputs"),
        ("Metric+={name: Calibration, bins: 0}", "Metric.1: bins must be at least 1, got 0"),
        ("Callbacks+={name: Pictures, every_epochs: 0}", "Callbacks.0: every_epochs must be at least 1, got 0"),
    ]
)

PRETRAIN = rows(
    [
        # ------------------------------------------------------------------------------------------------- masks
        ("MaskGenerator.num_masked=16", "MaskGenerator: num_masked must be between 1 and 15 for a grid of 4 x 4"),
        ("MaskGenerator.num_masked=0", "MaskGenerator: num_masked must be between 1 and 15", "got 0"),
        ("MaskGenerator.num_masked=null", "MaskGenerator: give either num_masked or ratio, and set the other to null"),
        ("MaskGenerator.ratio=0.5", "MaskGenerator: give either num_masked or ratio"),
        ("MaskGenerator.num_masked=null  MaskGenerator.ratio=1.5", "MaskGenerator: ratio must be between 0 and 1,"),
        (
            "MaskGenerator.grid=8",
            "MaskGenerator: grid is 8 x 8, but the encoder divides its images into 4 x 4 patches;",
        ),
        ("MaskGenerator.grid=[2,8]", "MaskGenerator: grid is 2 x 8, but the encoder divides its images into 4 x 4"),
        ("MaskGenerator.grid=[4,0]", "MaskGenerator: the sides of the grid must be positive, got [4, 0]"),
        (BLOCKS % "min_block: 9", "MaskGenerator: min_block must be in [1, num_masked=8], got 9"),
        (BLOCKS % "min_block: 2, max_block: 1", "MaskGenerator: max_block must be at least min_block=2, got 1"),
        (BLOCKS % "min_block: 2, min_aspect: 0", "MaskGenerator: needs 0 < min_aspect <= max_aspect (null: 1 /"),
        ("MaskGenerator=null", "MaskGenerator: the task MaskedImageModeling needs this section, for masked_index"),
        # --------------------------------------------------------------------------------------------- tokenizer
        ("Tokenizer.patch_size=8", "the tokenizer gives 4 targets an image, but the encoder has 16 patches (grid (4,"),
        ("DataLoader.Train.transforms.0.second_size=32", "the tokenizer gives 64 targets an image, but the encoder"),
        ("DataLoader.Train.transforms.0.second_size=15", "Tokenizer.patch_size 4 does not divide second crops of 15"),
        ("Tokenizer.patch_size=0", "Tokenizer: patch_size must be at least 1, got 0"),
        ("Tokenizer.vocab_size=9", "the tokenizer has 9 tokens, but the model's head predicts 8; set"),
        ("Tokenizer.seed=-1", "Tokenizer: seed must be at least 0, got -1"),
        ("Tokenizer=null", "pretrain.yaml:2: Tokenizer: the task MaskedImageModeling needs this section"),
        (PIXELS % 4, "main: cross_entropy compares predictions", "for pixels set main: mse and Model.vocab_size"),
        (f"{PIXELS % 4}  Loss.main=mse", "main: mse compares predictions [4, 8, 8]", "Model.vocab_size to the"),
        (f"{PIXELS % 5}  Loss.main=mse", "Tokenizer.patch_size 5 does not divide images of 16 x 16 pixels"),
        (PIXELS % "4, std: [0, 1, 1]", "Tokenizer: mean and std take three numbers, those of std above 0"),
        ("Tokenizer={_delete_: true, name: DVAETokenizer, checkpoint: nowhere}", "Tokenizer.checkpoint: nowhere does"),
        ("Tokenizer={_delete_: true, name: DalleTokenizer, weights: images}", "DALL-E's tokenizer is not there"),
        ("DataLoader.Train.batch_transforms=[{name: Normalize}]", "add the batch transform {name: ToFloat, key:"),
        (
            "DataLoader.Train.transforms=[{name: RandomResizedCrop, size: 16}]",
            "ToFloat: the batch has no 'target_image'; it has image, index",
        ),
        # ------------------------------------------------------------------------------ regressor, decoder, loss
        ("Model.decoder_embed_dim=18", "Model: sin-cos positions need a width that is a multiple of 4, got 18"),
        ("Model.decoder_embed_dim=0", "Model: decoder_embed_dim must be at least 1, got 0"),
        ("Model.decoder_embed_dim=12  Model.decoder_num_heads=5", "12 does not divide into 5 heads"),
        ("Model.decoder_num_heads=0", "Model: decoder_num_heads must be at least 1, got 0"),
        ("Model.decoder_depth=-1", "Model: decoder_depth must be at least 0, got -1"),
        ("Model.regressor_depth=-1", "Model: regressor_depth must be at least 0, got -1"),
        ("Model.decoder_drop_path_rate=2", "Model: decoder_drop_path_rate must be in [0, 1), got 2"),
        ("Model.regressor_drop_path_rate=-1", "Model: regressor_drop_path_rate must be in [0, 1), got -1"),
        ("Model.teacher_momentum=1.1", "Model: teacher_momentum must be in [0, 1], got 1.1"),
        ("Model.vocab_size=0", "Model: vocab_size must be at least 1, got 0"),
        ("Model.encoder.relative_position_bias=shared", "Model: CAE pre-trains without relative position bias"),
        ("Loss.alignment_weight=-1", "Loss: alignment_weight must not be negative, got -1"),
        ("Loss.main=mse", "main: mse compares predictions [4, 8, 8] with targets [4, 8, 8], got [4, 8]"),
        ("Loss={_delete_: true, name: CrossEntropy}", "the first step failed, so Model, Loss and DataLoader.Train"),
        ("Optimizer.layer_decay=0.7", "Optimizer: layer_decay needs a model with layer_index(name) and num_layers;"),
        (
            "Task={_delete_: true, name: Classification}  Tokenizer=null  Loss={_delete_: true, name: CrossEntropy}",
            "the first step failed",
            "forward() missing 2 required positional arguments",
        ),
        (
            "DataLoader.Eval={dataset: {name: ImageFolder, root: images/val}, loader: {batch_size: 4}}",
            "DataLoader.Eval: this tokenizer needs the second crop, target_image",
        ),
        (
            "DataLoader.Eval={dataset: {name: ImageFolder, root: images/val}, loader: {batch_size: 4}}  "
            "Metric=[{name: Accuracy}]",
            "Metric: the task MaskedImageModeling has no predictions; set Metric to null",
        ),
    ]
)


@pytest.mark.parametrize("case", CLASSIFY, ids=lambda case: case.name)
def test_an_invalid_classification_is_refused(cli, case):
    refused(cli, ["train", "-c", "classify.yaml", "-o", *case.overrides], case.says)


@pytest.mark.parametrize("case", PRETRAIN, ids=lambda case: case.name)
def test_an_invalid_pretraining_is_refused(cli, case):
    refused(cli, ["train", "-c", "pretrain.yaml", "-o", *case.overrides], case.says)


def test_errors_in_a_file_name_its_line(cli, tmp_path):
    (tmp_path / "x.yaml").write_text("_base_: classify.yaml\nModel:\n  encoder:\n    num_heads: 3\n", encoding="utf-8")
    text = refused(cli, ["train", "-c", "x.yaml"], [])
    assert text == ("error: x.yaml:4: Model.encoder: num_heads must divide the width: 16 does not divide into 3 heads")


def test_existing_directories_stay_and_new_ones_are_removed(cli, tmp_path):
    mistake = "DataLoader.Train.batch_transforms=[]"
    refused(cli, ["train", "-c", "classify.yaml", "-o", mistake, "Global.output_dir=a/b/c"], ["images are"], output="a")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("kept", encoding="utf-8")
    code, _, _ = cli("train", "-c", "classify.yaml", "-o", mistake, "Global.output_dir=a")
    assert code == 2
    assert (tmp_path / "a" / "mine.txt").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize("verb", [["train", "--dry-run"], ["plan"]])
def test_masks_on_another_grid_are_found_without_training(cli, verb):
    says = ["grid is 8 x 8, but the encoder divides its images into 4 x 4 patches"]
    refused(cli, [*verb, "-c", "pretrain.yaml", "-o", "MaskGenerator.grid=8"], says)


def test_both_configs_train_without_changes(cli):
    assert "done: 2 steps" in trains(cli)
    assert "done: 2 steps" in trains(cli, config="pretrain.yaml")
    assert "note: the training set has 2 classes, but the model has 10 outputs" in trains(
        cli, "Model.head.num_classes=10"
    )


NOTES = rows(
    [
        ("Optimizer.no_weight_decay=[nothing, '*.cls_token']", "Optimizer.no_weight_decay: the pattern 'nothing' "),
        ("LRScheduler.min_lr=0.1", "LRScheduler.min_lr is 0.1, above the learning rate of 0.001: the rate rises"),
        ("LRScheduler.scale=per_256  LRScheduler.min_lr=1e-4", "is 0.0001, above the learning rate of 1.5625e-05"),
        (STEPS % "milestones: [0.5, 3]", "LRScheduler.milestones: [3] are not reached, the run has 1 epochs"),
        ("Global.save_every_steps=3", "Global.save_every_steps is 3, but the run has 2 steps, so it has no effect"),
        ("Global.check_sync_every=9", "Global.check_sync_every is 9, but the run has 2 steps"),
        ("Global.max_train_step=3", "Global.max_train_step is 3, but the run has 2 steps"),
        ("Global.profile={start: 2, stop: 3}", "Global.profile starts at step 2, but the run has 2 steps"),
        (
            "Global.accumulate_steps=2  Global.global_batch_size=4",
            "Global.accumulate_steps is 2, but global_batch_size makes it 1",
        ),
        ("Global.eval_every_epochs=2", "Global.eval_every_epochs is 2, but the run has 1 epochs: it is done at"),
        ("Callbacks=[{name: Pictures, every_epochs: 5}]", "Callbacks.0.every_epochs is 5, but the run has 1 epochs"),
        (f"{EVAL}.batch_transforms.0.mean=[0.5]", "DataLoader.Eval.batch_transforms has [{'name': 'Normalize', 'mean'"),
    ]
)


@pytest.mark.parametrize("case", NOTES, ids=lambda case: case.name)
def test_settings_without_effect_are_reported(cli, case):
    said = trains(cli, *case.overrides)
    assert said.count("note: ") == 1
    (note,) = [line for line in said.splitlines() if line.startswith("note: ")]
    assert all(part in note for part in case.says), said


def test_patterns_of_init_without_a_match_are_reported(cli, runs):
    patterns = ["Init.allow_missing=[x, 'blocks.*']", "Init.allow_unexpected=[y]"]
    said = trains(cli, "Init.checkpoint=pretrained", *patterns)
    assert "Init.allow_missing: the pattern 'x' matches no name" in said and "blocks.*" not in said
    assert "Init.allow_unexpected: the pattern 'y' matches no name" in said
