"""`pipeline review`: images that are worth a look, and what a person decides about them."""
