"""Answers: faces in pictures and videos, and the expression that each shows. No torch."""

import os

# onnxruntime (1.31, Linux) looks for a server of Microsoft to report to as soon as it is imported,
# and keeps a file `.ses` in the temporary folder. Nothing leaves this machine unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from expression.predictor import ExpressionPredictor, FacePrediction  # noqa: E402

__all__ = ["ExpressionPredictor", "FacePrediction"]
