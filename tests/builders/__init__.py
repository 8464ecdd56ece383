"""Builders of test data: params, images, models, repositories."""
