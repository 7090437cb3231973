"""Names of tensors in the reference implementations and here, and the matrices that they store transposed.

Two spellings are supported: that of the authors' code (PyTorch, linear weights (out, in)) and that of PLSC (Paddle,
linear weights (in, out) as here). Names without a counterpart here map to None.
"""

import re
from typing import List, Optional, Pattern, Sequence, Tuple

_Rules = List[Tuple[Pattern, Optional[str]]]


def _rules(*pairs: Tuple[str, Optional[str]]) -> _Rules:
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


_NOT_KEPT = r".*\.(relative_position_index|num_batches_tracked)$"
_BIAS_TABLES = (
    (r"^(.*attn\.)relative_position_bias_table$", r"\1relative_position_bias.table"),
    (r"^(.*)rel_pos_bias\.relative_position_bias_table$", r"\1relative_position_bias.table"),
)
_PRETRAINING = _rules(
    (_NOT_KEPT, None),
    (r"^teacher_network\.", "teacher."),
    (r"^(?:pretext_neck\.regressor_blocks|regressor_and_decoder\.blocks)\.(.+)$", r"regressor.blocks.\1"),
    (r"^(?:pretext_neck\.decoder_blocks|regressor_and_decoder\.self_att_blocks)\.(.+)$", r"decoder.blocks.\1"),
    (r"^(?:pretext_neck|regressor_and_decoder)\.norm\.", "regressor.norm."),
    (r"^(?:pretext_neck|regressor_and_decoder)\.norm2\.", "decoder.norm."),
    (r"^(?:pretext_neck|regressor_and_decoder)\.head\.", "head."),
    (r"^(regressor\.blocks\.\d+\.(?:gamma_[12]|norm1_[qkv]|norm2|mlp))_cross(?=\.|$)", r"\1"),
    *_BIAS_TABLES,
)
_CLASSIFIER = _rules(
    (_NOT_KEPT, None),
    (r"^(?:attentive|linear)_blocks\.\d+\.norm2_cross\.", None),  # never used
    (r"^(?:attentive|linear)_blocks\.(\d+\.norm1_[qkv])(?:_cross)?\.", r"head.blocks.\1."),
    (r"^(?:attentive|linear)_blocks\.", "head.blocks."),
    (r"^query_token$", "head.query_token"),
    (r"^(?:fc_norm|head\.0)\.(?=running_)", "head.batch_norm."),
    (r"^head\.0\._mean$", "head.batch_norm.running_mean"),
    (r"^head\.0\._variance$", "head.batch_norm.running_var"),
    (r"^head\.0\.(?:weight|bias)$", None),  # of PLSC's batch norm: ones and zeros, never trained
    (r"^head\.(?:1\.)?(?=weight|bias)", "head.linear."),
    (r"^fc_norm\.", "encoder.norm."),
    *_BIAS_TABLES,
    (r"^(?!encoder\.|head\.)", "encoder."),
)
_UNUSED = (  # stored by the references, but without effect on what they compute
    (r"^(?:attentive|linear)_blocks\.(\d+\.norm2_cross\.(?:weight|bias))$", r"head.blocks.\1"),
    (r"^(?:fc_norm|head\.0)\.num_batches_tracked$", "head.batch_norm.num_batches_tracked"),
    (r"^head\.0\.(weight|bias)$", r"head.batch_norm.\1"),
)
_TO_OFFICIAL = _rules(
    (r"^(regressor\.blocks\.\d+\.(?:gamma_[12]|norm2|mlp))(?=\.|$)", r"\1_cross"),
    (r"^regressor\.blocks\.", "pretext_neck.regressor_blocks."),
    (r"^decoder\.blocks\.", "pretext_neck.decoder_blocks."),
    (r"^regressor\.norm\.", "pretext_neck.norm."),
    (r"^decoder\.norm\.", "pretext_neck.norm2."),
    (r"^head\.", "pretext_neck.head."),
)
_TO_PLSC = _rules(
    (r"^(regressor\.blocks\.\d+\.(?:gamma_[12]|norm1_[qkv]|norm2|mlp))(?=\.|$)", r"\1_cross"),
    (r"^teacher\.", "teacher_network."),
    (r"^regressor\.blocks\.", "regressor_and_decoder.blocks."),
    (r"^decoder\.blocks\.", "regressor_and_decoder.self_att_blocks."),
    (r"^regressor\.norm\.", "regressor_and_decoder.norm."),
    (r"^decoder\.norm\.", "regressor_and_decoder.norm2."),
    (r"^head\.", "regressor_and_decoder.head."),
)
_LINEAR_WEIGHT = re.compile(
    r"(?:^|\.)(?:attn\.(?:qkv|q|k|v|proj)|cross_attn\.(?:q|k|v|proj)|fc[12]|head|head\.1|head\.linear|encoder_to_decoder)\.weight$"
)


def pretraining_name(name: str) -> Optional[str]:
    """Our name in `CAE` for a reference's name in its pre-training model; None for tensors that are not kept."""
    return _apply(_PRETRAINING, name)


def classifier_name(name: str) -> Optional[str]:
    """Our name in `Classifier` for a reference's name in its fine-tuning or probing model; None if not kept.

    The authors' `fc_norm` is a layer norm in fine-tuning and a batch norm in attentive probing; only the latter has
    running statistics.
    """
    return _apply(_CLASSIFIER, name)


def official_name(name: str) -> str:
    """The authors' name for one of ours in `CAE`."""
    return _apply(_TO_OFFICIAL, name)


def plsc_name(name: str) -> str:
    """PLSC's name for one of ours in `CAE`."""
    return _apply(_TO_PLSC, name)


def unused_name(name: str) -> Optional[str]:
    """Our name of a tensor that a reference's classifier stores and never uses; None for every other tensor."""
    for pattern, replacement in _UNUSED:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return None


def classifier_official_name(name: str, mean_pooling: bool, attentive: bool, batch_norm: bool) -> str:
    """The authors' name for one of ours in `Classifier`.

    Args:
        name: Ours.
        mean_pooling: The encoder's last norm comes after the pooling, where they call it `fc_norm`.
        attentive: The head is attentive: its batch norm is their `fc_norm`.
        batch_norm: The head is a linear probe with a batch norm: they number the two, `head.0` and `head.1`.
    """
    rules = _rules(
        (r"^head\.batch_norm\.", "fc_norm." if attentive else "head.0."),
        (r"^head\.linear\.", "head.1." if batch_norm else "head."),
        (r"^head\.blocks\.", "attentive_blocks."),
        *_encoder_rules(mean_pooling),
    )
    return _apply(rules, name)


def classifier_plsc_name(name: str, mean_pooling: bool, batch_norm: bool) -> str:
    """PLSC's name for one of ours in `Classifier`.

    Args:
        name: Ours.
        mean_pooling: The encoder's last norm comes after the pooling, where it is called `fc_norm`.
        batch_norm: The head has a batch norm: the two are numbered, `head.0` and `head.1`, also in attentive heads.
    """
    rules = _rules(
        (r"^head\.batch_norm\.running_mean$", "head.0._mean"),
        (r"^head\.batch_norm\.running_var$", "head.0._variance"),
        (r"^head\.batch_norm\.", "head.0."),
        (r"^head\.linear\.", "head.1." if batch_norm else "head."),
        (r"^head\.blocks\.(\d+\.norm1_[qkv])\.", r"linear_blocks.\1_cross."),
        (r"^head\.blocks\.", "linear_blocks."),
        *_encoder_rules(mean_pooling),
    )
    return _apply(rules, name)


def _encoder_rules(mean_pooling: bool) -> Sequence[Tuple[str, Optional[str]]]:
    """Rules for the encoder and query of a classifier, the same in both references."""
    return (
        (r"^head\.query_token$", "query_token"),
        (r"^encoder\.norm\.", "fc_norm." if mean_pooling else "norm."),
        (r"^encoder\.relative_position_bias\.table$", "rel_pos_bias.relative_position_bias_table"),
        (r"attn\.relative_position_bias\.table$", "attn.relative_position_bias_table"),
        (r"^encoder\.", ""),
    )


def is_transposed(name: str) -> bool:
    """Return True if the name, ours or a reference's, is that of a linear weight: (out, in) in the authors' files."""
    return _LINEAR_WEIGHT.search(name) is not None


def official_to_own(name: str, classifier: bool = False) -> Optional[Tuple[str, bool]]:
    """Our name for one of the authors', and True if the array must be transposed; None for tensors that are not kept.

    Args:
        name: Name in a state dict of the authors' pre-training model, or of their classifier.
        classifier: True for their classifier.
    """
    own = classifier_name(name) if classifier else pretraining_name(name)
    return None if own is None else (own, is_transposed(name))


def _apply(rules: _Rules, name: str) -> Optional[str]:
    """Apply the rules in order, each to the result of the one before."""
    for pattern, replacement in rules:
        if replacement is None:
            if pattern.match(name):
                return None
        else:
            name = pattern.sub(replacement, name)
    return name
