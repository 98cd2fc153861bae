"""Costs of the methods by formula; see cost_model.py, which prints them."""

from __future__ import annotations

from typing import NamedTuple

FLOAT = 4
"""Bytes of a float32."""


class Cost(NamedTuple):
    """Cost of a method.

    Attributes:
        parameters: Trained parameters.
        macs: Multiply-accumulates of the forward pass, for each image or sequence.
        shared_macs: The same for each batch, whatever its size.
        activations: Bytes kept for the backward pass, for each image or sequence.
        shared_activations: The same for each batch.
    """

    parameters: int
    macs: int
    shared_macs: int = 0
    activations: int = 0
    shared_activations: int = 0

    def times(self, count: int) -> Cost:
        """Cost of so many of them."""
        return Cost(*(count * value for value in self))

    def plus(self, *others: Cost) -> Cost:
        """Cost of all together."""
        return Cost(*(sum(values) for values in zip(self, *others)))


def linear(inside: int, outside: int, bias: bool = True) -> int:
    """Parameters of a linear map."""
    return inside * outside + bias * outside


def hi_mapper(
    dim: int,
    positions: int,
    tokens: int = 1,
    width: int = 128,
    num_leaves: int = 32,
    num_levels: int = 4,
    hyp_dim: int = 128,
) -> Cost:
    """Hi-Mapper in training, with its losses (``recipe='paper'``).

    Args:
        dim: Width d of the features.
        positions: Positions M of the feature map.
        tokens: Global tokens that are enriched.
        width: Hidden width w.
        num_leaves: Leaves; level l has ``num_leaves / 2**l`` nodes, each of ``2**l`` samples.
        num_levels: Levels.
        hyp_dim: Dimensions of the hyperboloid.
    """
    d, w, m, t = dim, width, positions, tokens
    nodes = [num_leaves >> level for level in range(num_levels)]
    s, q = sum(nodes), num_levels * num_leaves  # nodes, and samples of all of them
    attention = 4 * w * w + w
    mlp = linear(w, 4 * w) + linear(4 * w, w)
    inward = 2 * d + linear(d, w)  # layer norm and linear map
    outward = 2 * w + linear(w, d)
    parameters = 2 * num_leaves * d
    parameters += 2 * inward + 2 * w + 3 * 2 * w + 2 * attention + mlp + outward
    parameters += 2 * inward + 2 * w + outward
    parameters += num_levels * (3 * 2 * w + attention + linear(w, w, False) + linear(w, w) + mlp)
    parameters += linear(d, hyp_dim, False) + 2  # lift, its scale and curvature
    # decomposer: keys and values of the positions, and the queries of all samples
    macs = m * d * w + 2 * m * w * w + 2 * q * m * w + q * w * w
    macs += 4 * q * w * w + 2 * q * num_leaves * w + 8 * q * w * w + s * w * d
    # encoder: the nodes once, then each token level by level
    macs += s * d * w + 2 * s * w * w + 2 * t * s * w + t * (2 * d * w + num_levels * 12 * w * w)
    macs += s * d * hyp_dim + s * s * (hyp_dim + 2)  # lift, and distances of all pairs
    shared = q * d * w + q * w * w  # queries are projected once a batch
    # layer norms and linear maps keep their inputs, attention its queries, keys and values
    kept = m * (8 * d + 16 * w + 24) + q * (96 * w + 64) + 104 * num_levels * t * w + 8 * t * d
    kept += s * (12 * d + 28 * w + 48 * hyp_dim + 164) + 14 * s * s  # the lift is in float64
    return Cost(parameters, macs, shared, kept, 16 * q * (d + w))


def hyper_clip(
    dim: int, depth: int, block_size: int = 128, projections: int = 3, text_dim: int = 0,
    text_depth: int = 0,
) -> Cost:  # fmt: skip
    """HyperCLIP's adapter of a tower or two: maps of the frozen weights, whatever the batch.

    Args:
        dim: Width of the vision tower.
        depth: Its layers.
        block_size: Size n of the blocks.
        projections: Adapted projections of each layer: query, key and value.
        text_dim: Width of the text tower.
        text_depth: Its layers; 0 leaves it out.
    """
    maps = [(dim, depth)] + [(text_dim, text_depth)] * bool(text_depth)
    parameters = sum(projections * layers * d * block_size for d, layers in maps)
    shared = sum(projections * layers * d * d * block_size for d, layers in maps)
    # of each weight: the scaled one, its image, and what the Mobius map keeps of it
    kept = sum(6 * projections * layers * d * d for d, layers in maps)
    return Cost(parameters, 0, shared, 0, kept)


def lorentz_block(dim: int, heads: int, hidden: int, length: int) -> Cost:
    """A block of HELM-D or LorentzViT, for one sequence.

    Args:
        dim: Space dimensions d; heads have ``(d + 1) / heads - 1``.
        heads: Number of heads.
        hidden: Hidden space dimensions of the feed-forward network.
        length: Tokens N.
    """
    inner = dim + 1 - heads  # space dimensions of all heads
    parameters = 3 * linear(dim + 1, inner) + linear(dim + 1, dim) + 1
    parameters += 2 * linear(dim + 1, hidden) + linear(hidden + 1, dim) + 2 * dim + 2
    per_token = 3 * (dim + 1) * inner + (dim + 1) * dim
    per_token += 2 * (dim + 1) * hidden + (hidden + 1) * dim + 2 * length * (dim + 1)
    kept = length * (44 * dim + 12 * hidden + 10 * heads + 66)
    rotations = 4 * length * (inner // heads) + 4  # of all positions, one table for the batch
    return Cost(parameters, length * per_token, 0, kept, rotations)


def mixture(
    dim: int, hidden: int, length: int, experts: int, top_k: int = 2, shared: int = 1
) -> Cost:
    """Experts of a block of HELM-MiCE, in place of its feed-forward network.

    Args:
        dim: Space dimensions d.
        hidden: Hidden space dimensions of an expert.
        length: Tokens N.
        experts: Routed experts.
        top_k: Those of a token.
        shared: Experts of all tokens.
    """
    one = 2 * linear(dim + 1, hidden) + linear(hidden + 1, dim)
    parameters = (experts + shared) * (one + 1) + experts * dim  # curvatures, gate
    used = top_k + shared
    per_token = used * (2 * (dim + 1) * hidden + (hidden + 1) * dim) + experts * dim
    kept = length * (12 * hidden * used + dim * (16 + 4 * shared + 9 * top_k))
    return Cost(parameters, length * per_token, 0, kept)


def helm(
    dim: int, depth: int, heads: int, hidden: int, length: int, vocab_size: int, embedding: int = 0
) -> Cost:
    """HELM-D with its loss; its logits, which are computed in chunks, are not kept.

    Args:
        dim: Space dimensions.
        depth: Blocks.
        heads: Heads.
        hidden: Hidden dimensions of the feed-forward networks.
        length: Tokens of a sequence.
        vocab_size: Tokens of the vocabulary.
        embedding: Columns of the table of tokens; 0 for ``dim``.
    """
    outside = Cost(
        vocab_size * (embedding or dim) + linear(dim + 1, dim) + dim + vocab_size * (dim + 1),
        length * (dim + 1) * dim + (length - 1) * vocab_size * (dim + 1),
    )
    return lorentz_block(dim, heads, hidden, length).times(depth).plus(outside)


def transformer(
    dim: int, depth: int, heads: int, length: int, out_dim: int, trained: bool = True
) -> Cost:
    """Blocks of a tower of CLIP with quick GELU, and its projection, for one sequence.

    Args:
        dim: Width W.
        depth: Blocks.
        heads: Heads.
        length: Tokens L.
        out_dim: Width of the features.
        trained: Whether weights have gradients; else gradients go through them alone.
    """
    parameters = depth * (12 * dim * dim + 13 * dim) + 2 * dim + dim * out_dim
    macs = depth * length * (12 * dim * dim + 2 * length * dim) + dim * out_dim
    # norms, attention and the activation keep their inputs; trained maps keep theirs
    kept = depth * length * ((20 if trained else 14) * dim + heads + 4) + 2 * dim * trained
    return Cost(parameters * trained, macs, 0, FLOAT * kept)


def maple(
    text: tuple[int, int, int],
    image: tuple[int, int, int],
    dim: int,
    classes: int,
    length: int,
    size: int,
    patch: int,
    context: int = 2,
    deep: int = 9,
) -> Cost:
    """MaPLe on a frozen CLIP, up to its logits.

    Args:
        text: Width, blocks and heads of the text tower.
        image: The same of the image tower, a ViT.
        dim: Width D of the features.
        classes: Classes C, all of which are encoded in each step.
        length: Tokens of the longest prompt, start and end included.
        size: Side of an image.
        patch: Side of a patch.
        context: Prompt vectors of a block.
        deep: Blocks with prompts.
    """
    w, v, cells = text[0], image[0], (size // patch) ** 2
    tower = transformer(*image, cells + 1 + context, dim, False)
    texts = transformer(*text, length, dim, False).times(classes)
    macs = cells * 3 * patch * patch * v + tower.macs + classes * dim
    # prompts of the image are projected from those of the text, once for each tower
    shared = texts.macs + 2 * deep * context * w * v
    kept = FLOAT * (3 * v + dim + 2 * classes)
    kept_of_texts = FLOAT * classes * (2 * w + 5 * dim)
    return Cost(
        deep * (context * w + linear(w, v)),
        macs,
        shared,
        tower.activations + kept,
        texts.activations + kept_of_texts,
    )


def lath_adapter(
    dim: int, batch: int, classes: int, attributes: int, neighbors: int = 3, max_triplets: int = 64
) -> Cost:
    """LatHAdapter's head with its losses: pairs of a batch, so that all of it is of the batch.

    Args:
        dim: Width d of the features.
        batch: Images B.
        classes: Classes C.
        attributes: Attributes N.
        neighbors: Neighbors k of an anchor.
        max_triplets: Most triplets of an anchor.
    """
    d, b, c, n = dim, batch, classes, attributes
    macs = 2 * (c + n) ** 2 * d + b * c * (2 * d + 2) + (b * b + b * n + n * n + n * c) * (d + 2)
    triplets = [x * min(max_triplets, min(neighbors, x) * x) for x in (b, n)]
    kept = (17 * b + 21 * c + 19 * n) * d + (c + n) ** 2 + 3 * b * c + b * n + n * c
    kept += 9 * (triplets[0] * n + triplets[1] * c) + 9 * sum(triplets) + 54 * (b + c + n)
    return Cost(n * d, 0, macs, 0, FLOAT * kept)


def radial(
    dim: int, depth: int, heads: int, out_dim: int, length: int, vocab_size: int = 49408,
    context: int = 77, tiers: int = 4,
) -> Cost:  # fmt: skip
    """CLIP's text tower in training with a radial loss, for a chain of captions and its negatives.

    The empty text, which is the root, is of the batch; the image tower is not run.

    Args:
        dim: Width of the tower.
        depth: Its blocks.
        heads: Its heads.
        out_dim: Width D of the features.
        length: Tokens of the longest caption of the batch.
        vocab_size: Tokens of the vocabulary.
        context: Positions of the tower.
        tiers: Captions of a chain.
    """
    text = transformer(dim, depth, heads, length, out_dim)
    kept = text.activations + FLOAT * (2 * dim + 6 * out_dim + 3 * length)
    pairs = FLOAT * (tiers - 1) * (10 * out_dim + 26)  # angles at a caption and two others
    return Cost(
        text.parameters + (vocab_size + context) * dim,
        2 * tiers * text.macs,
        text.macs,
        2 * tiers * kept + pairs,
        kept,
    )


def cuts(length: int, window: int, shifted: bool) -> list[int]:
    """Sides of the windows along a side of a square map, as CAT-Seg's blocks cut it."""
    first = [window // 2] if shifted and length > window else []
    whole, rest = divmod(length - sum(first), window)
    return first + [window] * whole + ([rest] if rest else [])


def cost_aggregation(
    classes: int,
    side: int,
    text_dim: int = 512,
    appearance_dim: int = 512,
    guidance_dims: tuple[int, int] = (256, 128),
    dim: int = 128,
    projected_dim: int = 128,
    decoder_dims: tuple[int, int] = (64, 32),
    decoder_guidance_dims: tuple[int, int] = (32, 16),
    num_layers: int = 2,
    num_heads: int = 4,
    window: int = 12,
    pad_len: int = 256,
    class_chunk: int = 16,
) -> Cost:
    """CAT-Seg's cost aggregation in training, maps pooled by 2 between classes.

    Args:
        classes: Classes; at most ``pad_len`` of them count.
        side: Side of the square map of cosines, even.
        text_dim: See :class:`hyper_mm.layers.CostAggregator`, as the next ones.
        appearance_dim: The same.
        guidance_dims: The same.
        dim: The same.
        projected_dim: The same.
        decoder_dims: The same.
        decoder_guidance_dims: The same.
        num_layers: The same.
        num_heads: The same.
        window: The same.
        pad_len: The same.
        class_chunk: The same.
    """
    c, g, d = dim, projected_dim, text_dim
    t, p, cells = min(classes, pad_len or classes), side * side, side * side // 4
    chunks, layers, head = -(-t // class_chunk), num_layers, dim // num_heads
    parameters = 49 * c + c + 9 * appearance_dim * g + g + linear(d, g) + 9 * decoder_dims[-1] + 1
    macs = p * classes * d + 49 * t * p * c + 9 * p * appearance_dim * g + t * d * g
    kept = p * (2 * d + appearance_dim + (1 + layers) * g) + t * (4 * d + 2 * g)

    # a layer: two window blocks, attention over the pooled classes; queries and keys are guided
    guided = linear(c, 3 * c) + 2 * g * c
    parameters += layers * (2 * g + 2 * (guided + linear(c, c) + 4 * c + 8 * c * c + 5 * c))
    parameters += layers * (guided + 4 * c + 8 * c * c + 5 * c + (c + g) * (pad_len > 0))
    squares = sum(sum(n * n for n in cuts(side, window, shifted)) ** 2 for shifted in (0, 1))
    macs += layers * (24 * t * p * c * c + 4 * chunks * p * g * c + 2 * t * c * squares)
    macs += layers * (t * cells * c * (11 * c + 2 * head + 1) + 2 * t * g * c)
    shared = layers * (3 * c * c + 2 * g * c) * (classes < pad_len)
    kept += t * p * (1 + layers * (35 * c + 2 * num_heads + 8) + c)
    kept += layers * cells * (t * (15 * c + num_heads + 4) + c * (head + 1))

    # decoder: doubled by a transposed convolution, then two of 3 x 3, twice
    inside, outside = (c, decoder_dims[0]), decoder_dims
    for level, (i, o, q, h) in enumerate(
        zip(inside, outside, guidance_dims, decoder_guidance_dims)
    ):
        size = p * 4 ** (level + 1)
        parameters += linear(4 * i, i - h, False) + i - h + 9 * (i * o + o * o) + 4 * o
        parameters += 9 * q * h + h
        macs += t * size * (i * (i - h) + 9 * (i - h) * o + 9 * o * o)
        macs += 9 * size * h * (q + chunks * o)
        kept += size * (t * (i - h + 4 * o) + q + h)
    macs += 9 * t * size * decoder_dims[-1]
    return Cost(parameters, macs, shared, FLOAT * kept)


class UNet(NamedTuple):
    """Convolutions of mmseg's U-Net of five levels with a head, for one image.

    Attributes:
        parameters: Of all.
        macs: Of the forward pass.
        first: Those of the first convolution, whose input has no gradient.
        outputs: Numbers that the convolutions before a norm compute.
        others: Numbers that are kept besides those and their activations.
    """

    parameters: int
    macs: int
    first: int
    outputs: int
    others: int


def unet(channels: int, side: int, classes: int = 2, head: bool = True) -> UNet:
    """U-Net with norms that have weights, 3 x 3 convolutions in pairs.

    Args:
        channels: Channels b of the first level; each next one has twice as many.
        side: Side of an image.
        classes: Classes of the head.
        head: Whether there is one: a convolution and a classifier of each pixel.
    """
    widths = [channels << level for level in range(5)]
    pixels = [(side >> level) ** 2 for level in range(5)]
    maps = []  # kernel, channels in and out, pixels of each convolution
    for before, width, size in zip([3, *widths], widths, pixels):
        maps += [(9, before, width, size), (9, width, width, size)]
    for width, size in zip(widths, pixels[:4]):
        maps += [(1, 2 * width, width, size), (9, 2 * width, width, size), (9, width, width, size)]
    maps += [(9, channels, channels, pixels[0])] * head
    parameters = sum(k * i * o + 2 * o for k, i, o, _ in maps)
    macs = sum(k * i * o * size for k, i, o, size in maps)
    # doubled maps and those beside skipped ones; pooled maps with indices of 8 bytes
    others = 3 * pixels[0] + sum(4 * w * size for w, size in zip(widths, pixels[:4]))
    others += sum(3 * w * size for w, size in zip(widths, pixels[1:]))
    if head:
        parameters += linear(channels, classes)
        macs += channels * classes * pixels[0]
        others += (2 * classes + 4) * pixels[0]
    outputs = sum(o * size for _, _, o, size in maps)
    return UNet(parameters, macs, 27 * channels * pixels[0], outputs, others)


class Episode(NamedTuple):
    """Cost of an episode of meta-learning.

    Attributes:
        cost: The episode in place of an image: up to its loss, inner gradients included.
        step_macs: Multiply-accumulates of the whole, with the backward pass.
    """

    cost: Cost
    step_macs: int


def maml(
    channels: int,
    side: int,
    support: int,
    query: int,
    steps: int,
    first_order: bool = False,
    support_loss: bool = False,
) -> Episode:
    """MAML of a U-Net, FOMAML, or MetaSeg without its boundary contrast.

    A convolution takes 1 product forward, 2 for its gradients, and where those are differentiated
    4 more; then 2 for the forward pass of the inner step.

    Args:
        channels: See :func:`unet`.
        side: See :func:`unet`.
        support: Images of a support.
        query: Images of a query.
        steps: Inner steps.
        first_order: FOMAML.
        support_loss: Whether the loss before the first step counts as well, with ``first_order``:
            MetaSeg.
    """
    net = unet(channels, side)
    inner, images = steps * support, 3 * net.macs - net.first
    macs = inner * images + query * net.macs
    whole = inner * (images if first_order else 9 * net.macs - 4 * net.first) + query * images
    once, shared = 2 * net.outputs + net.others, 0
    if support_loss:  # all inner graphs live until the end of an episode, that of the loss longer
        whole += support * (images - net.macs)
        kept = (support + query) * once + net.parameters
        shared = (steps - 1) * (support * once + net.parameters)
    elif first_order:  # an inner step is freed before the next; the weights after the last stay
        kept = query * once + net.parameters
        shared = max(0, (support - query) * once - net.parameters * (steps == 1))
    else:  # each step keeps gradients of the same size as what they are of, and its weights
        twice = once + 2 * net.outputs + 8 * side * side
        kept = inner * twice + query * once + steps * net.parameters
    return Episode(Cost(net.parameters, macs, 0, FLOAT * kept, FLOAT * shared), whole)


def proto_net(channels: int, side: int, support: int, query: int) -> Episode:
    """Prototypes of one class and the background on a U-Net, with alignment.

    Args:
        channels: See :func:`unet`.
        side: See :func:`unet`.
        support: Images of a support.
        query: Images of a query.
    """
    net, pixels = unet(channels, side, head=False), side * side
    images = support + query
    means, cosines = 2 * pixels * channels * images, 2 * pixels * channels * images
    over_shots = 2 * support * channels
    macs = images * net.macs + means + cosines + over_shots
    # weights of means have no gradient, both sides of cosines have one
    whole = images * (3 * net.macs - net.first) + 2 * (means + over_shots) + 3 * cosines
    kept = images * (2 * net.outputs + net.others) + pixels * (
        support * (2 * channels + 6) + query * (channels + 8)
    )
    return Episode(Cost(net.parameters, macs, 0, FLOAT * kept), whole)


def all_reduce(parameters: int, gpus: int) -> float:
    """Bytes that a process sends each step with DDP: a ring all-reduce of float32 gradients."""
    return 2 * (gpus - 1) / gpus * FLOAT * parameters


def fully_sharded(parameters: int, gpus: int) -> float:
    """Bytes that a process sends each step with FSDP: weights gathered twice, gradients once."""
    return 3 * (gpus - 1) / gpus * FLOAT * parameters
