"""What dataset.toml says of a data set: where its images are, their labels and licences."""
