"""Networks: backbones, heads, and where they are cut."""
