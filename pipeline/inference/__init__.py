"""A trained model at work: from image bytes to classes and probabilities."""
