"""The workshop behind predict.py and demo.py."""
