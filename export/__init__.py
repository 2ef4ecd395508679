"""From a Hugging Face directory to an ONNX graph that provably computes the same."""

from nuner_embed.export.exporter import export_onnx
from nuner_embed.export.verification import Verification, verify

__all__ = ["Verification", "export_onnx", "verify"]
