"""The laboratory behind `experiments.py`: recipes, training, evaluation, comparison."""
