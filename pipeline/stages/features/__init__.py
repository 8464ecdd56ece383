"""Stage features: run the frozen part of the network once per image and view."""
