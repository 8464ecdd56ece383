"""Which split each image is assigned to: what the memory of the last split depends on."""
