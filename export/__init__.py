"""From a Hugging Face directory to an ONNX graph that provably computes the same."""

from nuner_embed.export.exporter import export_onnx

__all__ = ["export_onnx"]
