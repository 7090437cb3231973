"""DALL-E's encoder and decoder, and its mapping of pixels."""

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from plsc.tokenizers import DalleTokenizer
from plsc.tokenizers.dalle import DalleDecoder, DalleEncoder, map_pixels, unmap_pixels
from tests.parity import fixtures
from tests.parity.deviation import check


def build(path):
    config, arrays = fixtures.read(path)
    sizes = (config["n_hid"], config["n_blk_per_group"], config["vocab_size"])
    networks = {"encoder": DalleEncoder(*sizes), "decoder": DalleDecoder(config["n_init"], *sizes)}
    for part, network in networks.items():
        network.set_state_dict(fixtures.group(arrays, part))
    return arrays, networks


def close(ours, reference, atol=1e-5):
    check("DALL-E", ours, reference, atol)


@pytest.mark.parametrize("path", fixtures.of_kind("dalle"))
def test_encoder_decoder_and_pixels(path):
    arrays, networks = build(path)
    mapped = map_pixels(paddle.to_tensor(arrays["pixels01"]))
    close(mapped, arrays["mapped"], 1e-6)
    logits = networks["encoder"](mapped)
    close(logits, arrays["enc_logits"])
    np.testing.assert_array_equal(logits.argmax(axis=1).numpy(), arrays["codebook_indices"])
    one_hot = F.one_hot(paddle.to_tensor(arrays["codebook_indices"]), logits.shape[1]).transpose([0, 3, 1, 2])
    decoded = networks["decoder"](one_hot)
    close(decoded, arrays["decoder_out"])
    close(unmap_pixels(F.sigmoid(decoded[:, :3])), arrays["recon_unmapped"])
    close(unmap_pixels(paddle.to_tensor(arrays["unmap_in"])), arrays["unmap_out"], 1e-6)


@pytest.mark.parametrize("path", fixtures.of_kind("dalle"))
def test_the_tokenizer_reads_the_published_folder(path, tmp_path):
    arrays, _ = build(path)
    for part in ("encoder", "decoder"):
        paddle.save(
            {name: paddle.to_tensor(value) for name, value in fixtures.group(arrays, part).items()},
            str(tmp_path / f"{part}_weight.pd"),
        )
    tokenizer = DalleTokenizer(str(tmp_path))
    tokens = tokenizer({"target_image": paddle.to_tensor(arrays["pixels01"])})
    np.testing.assert_array_equal(tokens.numpy(), arrays["codebook_indices"].reshape(len(tokens), -1))
    rows, columns = arrays["codebook_indices"].shape[1:]
    if rows == columns:  # tokens without a stored grid are assumed to form a square
        close(tokenizer.decode(tokens), arrays["recon_unmapped"])
