"""Networks: backbones, heads, where they are cut, and the features of the frozen part."""
