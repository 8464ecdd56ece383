"""From untrusted bytes to pixels, and a function over all images, in parallel and remembered."""
