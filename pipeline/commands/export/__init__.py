"""`pipeline export`: models and images in the forms that other tools read."""
