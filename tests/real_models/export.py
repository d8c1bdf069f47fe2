"""Real architectures from the transformers package, exported to ONNX as their users export them.

Configurations are written out here and the weights are random from a fixed seed, so nothing is
downloaded. They are small in width and depth and have every operator of the full model.

    python export.py FOLDER [MODEL ...]
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

OPSET = 18


@dataclass(frozen=True)
class Exported:
    """A model, what it is called with, and what is taken of what it returns.

    Attributes:
        model: The network, as transformers makes it.
        inputs: Name to example, in the order of the network's arguments.
        outputs: Fields of what the network returns.
        dynamic: Names of dimensions that are left open, by input and axis.
    """

    model: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, Any]] | None = None


class _Fields(torch.nn.Module):
    """Takes tensors and returns the wanted fields alone, as ONNX has neither None nor classes."""

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self.model = exported.model
        self.inputs = tuple(exported.inputs)
        self.outputs = exported.outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, tensors, strict=True)))
        return tuple(found[name] for name in self.outputs)


def dinov2() -> Exported:
    """An image encoder whose number of images is left open."""
    config = transformers.Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    return Exported(
        transformers.Dinov2Model(config),
        {"pixel_values": torch.rand(2, 3, 56, 56)},
        ("last_hidden_state", "pooler_output"),
        {"pixel_values": {0: "batch"}},
    )


def siglip_vision() -> Exported:
    """An image encoder with attention pooling."""
    config = transformers.SiglipVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        image_size=64, patch_size=16,
    )  # fmt: skip
    return Exported(
        transformers.SiglipVisionModel(config),
        {"pixel_values": torch.rand(1, 3, 64, 64)},
        ("last_hidden_state", "pooler_output"),
    )


def superpoint() -> Exported:
    """A keypoint detector: how many points there are depends on the image."""
    config = transformers.SuperPointConfig(
        encoder_hidden_sizes=[16, 16, 32, 32], decoder_hidden_size=32,
        descriptor_decoder_dim=32, keypoint_decoder_dim=65,
    )  # fmt: skip
    return Exported(
        transformers.SuperPointForKeypointDetection(config),
        {"pixel_values": torch.rand(1, 3, 64, 64)},
        ("keypoints", "scores", "descriptors"),
    )


def vitpose() -> Exported:
    """A pose estimator: heatmaps of joints."""
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[64, 48], patch_size=[16, 16], hidden_size=64, num_hidden_layers=2,
        num_attention_heads=2, mlp_ratio=2, out_indices=[2],
    )  # fmt: skip
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=17)
    return Exported(
        transformers.VitPoseForPoseEstimation(config),
        {"pixel_values": torch.rand(1, 3, 64, 48)},
        ("heatmaps",),
    )


def yolos() -> Exported:
    """A detector that is a plain transformer."""
    config = transformers.YolosConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        image_size=[64, 64], patch_size=16, num_detection_tokens=10,
    )  # fmt: skip
    return Exported(
        transformers.YolosForObjectDetection(config),
        {"pixel_values": torch.rand(1, 3, 64, 64)},
        ("logits", "pred_boxes"),
    )


def rt_detr() -> Exported:
    """A detector with deformable attention: TopK, GatherElements, GridSample."""
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1],
        layer_type="basic", out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[32, 48, 64], encoder_hidden_dim=32,
        encoder_ffn_dim=64, d_model=32, num_queries=20, decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, num_denoising=0, anchor_image_size=None,
    )  # fmt: skip
    return Exported(
        transformers.RTDetrForObjectDetection(config),
        {"pixel_values": torch.rand(1, 3, 128, 128)},
        ("logits", "pred_boxes"),
    )


def segformer() -> Exported:
    """A segmenter that resizes its features."""
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], decoder_hidden_size=32
    )
    return Exported(
        transformers.SegformerForSemanticSegmentation(config),
        {"pixel_values": torch.rand(1, 3, 64, 64)},
        ("logits",),
    )


def bert() -> Exported:
    """A text encoder: three inputs of integers, and a length that is left open."""
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128, max_position_embeddings=32,
    )  # fmt: skip
    ids = torch.randint(0, 100, (2, 16))
    axes = {0: "batch", 1: "length"}
    return Exported(
        transformers.BertModel(config),
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
        },
        ("last_hidden_state", "pooler_output"),
        {"input_ids": axes, "attention_mask": axes, "token_type_ids": axes},
    )


MODELS: dict[str, Callable[[], Exported]] = {
    one.__name__: one
    for one in (dinov2, siglip_vision, superpoint, vitpose, yolos, rt_detr, segformer, bert)
}


def export(name: str, folder: Path) -> Path:
    """Write `<name>.onnx` to a folder, its weights beside it, the same bytes every time."""
    torch.manual_seed(0)
    exported = MODELS[name]()
    _train_a_little(exported)
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Fields(exported).eval(),
            tuple(exported.inputs.values()),
            path,
            input_names=list(exported.inputs),
            output_names=list(exported.outputs),
            dynamic_shapes=_dynamic(exported),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return path


def _train_a_little(exported: Exported) -> None:
    """Weights as large as training makes them, and the statistics of batches seen.

    Fresh ones shrink activations from layer to layer until they are nothing in fp16, and leave
    scores equal to the last bit.
    """
    exported.model.eval()
    for module in exported.model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.train()
    with torch.no_grad():
        for _ in range(4):
            exported.model(**{name: _like(example) for name, example in exported.inputs.items()})


def _like(example: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(example) if example.is_floating_point() else example


def _dynamic(exported: Exported) -> tuple[tuple[dict[int, Any], ...]] | None:
    if exported.dynamic is None:
        return None
    return (tuple(exported.dynamic[name] for name in exported.inputs),)


if __name__ == "__main__":
    for wanted in sys.argv[2:] or MODELS:
        export(wanted, Path(sys.argv[1]))
