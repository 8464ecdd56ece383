"""`pipeline review`: images that are worth a look, and a person's decisions on them."""
