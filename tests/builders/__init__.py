"""Builders of what several tests start from: params, images, models, repositories."""
