"""What a model does: metrics, plots, model cards. Each file stands alone."""
