"""From a folder, a zip or a search to a trained image classifier whose origin can be proved."""

__version__ = "0.1.0"
