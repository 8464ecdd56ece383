"""Views of images for a network, decoded beside its forward passes."""
