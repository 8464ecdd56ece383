"""What people ask of a trained model: images from anywhere in, classes and probabilities out."""
