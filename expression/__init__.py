"""Answers: faces in pictures and videos, and the expression that each shows. No torch."""

from expression.predictor import ExpressionPredictor, FacePrediction

__all__ = ["ExpressionPredictor", "FacePrediction"]
