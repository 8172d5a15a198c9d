"""What each family of encoders cannot do, in words: the last column of docs/encoders.md, and what it means."""

from fnmatch import fnmatchcase
from typing import NamedTuple

from support.image_checkpoints import IMAGE_MODELS, TWO_TOWERS


class Limit(NamedTuple):
    """A limit, and whose it is."""

    text: str
    families: tuple[str, ...]
    """Names of ``encoder_members.ENCODERS``, or patterns with ``*``, where ``[*]`` is a star itself."""


def _transformers(*kinds: str) -> tuple[str, ...]:
    return tuple(f"transformers/[*] {kind}" for kind in kinds)


_TEXT = ("bert", "distilbert", "roberta", "mpnet", "deberta", "deberta-v2", "albert", "electra", "xlm-roberta")
_TEXT += ("camembert", "modernbert", "gpt2", "gpt_neo", "gpt_neox", "opt", "bloom", "llama", "mistral", "qwen2")
_TEXT += ("gemma", "*, tower: text", "sentence-transformers")

_CONVOLUTIONS = tuple(
    f"torchvision/{family}"
    for family in (
        *("alexnet", "vgg*", "googlenet", "inception_v3", "*resn*", "densenet121", "squeezenet1_1", "mobilenet*"),
        *("mnasnet*", "shufflenet*", "efficientnet*", "regnet*"),
    )
)

LIMITS: dict[str, Limit] = {
    "image size": Limit(
        "`image_size` must suit the network's stride or patch: a multiple of the patch for vision transformers (32 for "
        "`vit_b_32`), of 224 for MaxViT, elsewhere at least the least size of the network; the error says it.",
        ("torchvision/*", "timm/*", "packaged/*"),
    ),
    "no last norm": Limit(
        "the original's last norm belongs to its classifier or its pooled vector, and is not applied to tokens.",
        (
            *("torchvision/convnext_tiny", "torchvision/maxvit_t", "timm/test_convnext"),
            *_transformers("convnext", "convnextv2", "clip", "clip_vision_model"),
        ),
    ),
    "a group a block": Limit(
        "each of its four dense blocks is one depth group, however many layers it has.", ("torchvision/densenet121",)
    ),
    "SWAG licence": Limit(
        "weights of torchvision's versions `IMAGENET1K_SWAG_*` are CC-BY-NC-4.0: not for commercial use. They are the "
        "default of `vit_h_14` and `regnet_y_128gf`.",
        ("torchvision/vit_b_32", "torchvision/regnet_y_400mf"),
    ),
    "one feature map": Limit("timm's models that give several feature maps are refused.", ("timm/*",)),
    "grey level": Limit(
        "images agree with those of the library's PIL-based image processors within one grey level (bicubic: two), not "
        "to the bit.",
        _transformers(*IMAGE_MODELS, *TWO_TOWERS),
    ),
    "eager attention": Limit(
        "its attention is computed step by step, not by torch's fused kernels, which cannot be exported with its "
        "biases: more memory, less speed.",
        _transformers("beit", "swin"),
    ),
    "no NaFlex": Limit(
        "SigLIP 2 is read at one resolution only; its NaFlex models, which take images of any shape, are refused.",
        _transformers("siglip", "siglip_vision_model"),
    ),
    "tokenizer.json": Limit(
        "only `tokenizer.json` is read: no sentencepiece, which is often all that DeBERTa-v3 has.",
        _transformers(*_TEXT),
    ),
    "shared layers": Limit("its layers share their weights, and with them one depth group.", _transformers("albert")),
    "always padded": Limit(
        "was trained on padded texts without a mask: every text is padded to the model's length.",
        _transformers("siglip, tower: text", "siglip2, tower: text"),
    ),
    "no prompts": Limit(
        "prompts are not applied; models on T5 are refused.",
        _transformers("sentence-transformers"),
    ),
    "whole words": Limit(
        "the file is converted once, beside it or in `cache`; a word is looked for as written, then in lower case, "
        "then by its parts, else it is left out; a text without a known word is one zero token. No fastText subwords.",
        ("wordvectors/[*]",),
    ),
    "cut": Limit(
        "a clip longer than `max_seconds` is cut to its beginning.",
        ("compact/audio", "torchaudio/*", *_transformers("wav2vec2*", "hubert*", "wavlm*")),
    ),
    "fixed length": Limit(
        "AST reads 10.24 s, Whisper always computes 30 s, CLAP reads the first 10 s (the original: a random part).",
        _transformers("ast", "whisper", "clap"),
    ),
    "unfused only": Limit("only unfused CLAP models are read.", _transformers("clap")),
    "written out": Limit(
        "its attention is written out, so its memory grows with the square of the length.",
        ("torchaudio/wavlm*", *_transformers("wavlm*")),
    ),
    "LoRA targets": Limit(
        "low-rank adaptation takes linear layers, of which there are none: name others in `transfer.lora.targets`.",
        ("compact/image", *_CONVOLUTIONS, "timm/test_resnet", "packaged/*", "wordvectors/[*]"),
    ),
}
"""Label in the column -> the limit."""


def limits_of(name: str) -> list[str]:
    """Labels of the limits of a member."""
    return [label for label, limit in LIMITS.items() if any(fnmatchcase(name, each) for each in limit.families)]
