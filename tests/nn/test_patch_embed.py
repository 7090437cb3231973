import numpy as np
import paddle
import pytest

from plsc.nn.patch_embed import PatchEmbed, gather_tokens


def image(*shape):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("size, patch", [((8, 8), (4, 4)), ((8, 12), (4, 2))])
def test_equals_the_convolution(size, patch):
    paddle.seed(0)
    embed, x = PatchEmbed(size, patch, 3, 5), image(2, 3, *size)
    expected = embed.proj(x).flatten(2).transpose([0, 2, 1])
    assert embed.grid_size == (size[0] // patch[0], size[1] // patch[1])
    assert embed(x).shape == [2, embed.num_patches, 5]
    np.testing.assert_allclose(embed(x).numpy(), expected.numpy(), atol=1e-5)


def test_embeds_only_the_requested_patches():
    paddle.seed(0)
    embed, x = PatchEmbed((8, 8), (2, 2), 3, 5), image(2, 3, 8, 8)
    index = np.array([[0, 3, 15], [7, 8, 9]])
    expected = np.take_along_axis(embed(x).numpy(), index[:, :, None], axis=1)
    np.testing.assert_allclose(embed(x, paddle.to_tensor(index)).numpy(), expected, atol=1e-6)


def test_gather_tokens_passes_gradients_back():
    tokens = paddle.zeros([2, 4, 3])
    tokens.stop_gradient = False
    gather_tokens(tokens, paddle.to_tensor([[1], [2]])).sum().backward()
    assert tokens.grad.numpy().sum(axis=-1).tolist() == [[0, 3, 0, 0], [0, 0, 3, 0]]


def test_refuses_an_image_that_is_not_a_multiple_of_the_patch():
    with pytest.raises(ValueError, match=r"image_size \(10, 8\) is not a multiple of patch_size \(4, 4\)"):
        PatchEmbed((10, 8), (4, 4), 3, 5)


def test_refuses_an_image_of_another_size():
    with pytest.raises(ValueError, match=r"built for images of \(8, 8\).*got \(8, 12\)"):
        PatchEmbed((8, 8), (4, 4), 3, 5)(image(1, 3, 8, 12))
