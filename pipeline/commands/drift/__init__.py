"""`pipeline drift`: whether new images are like those that the model was trained on."""
