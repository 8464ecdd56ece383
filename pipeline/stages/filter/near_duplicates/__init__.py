"""Find near-duplicates: by one hash of the whole image, and by hashes of parts of it.

The hash of the whole (`hash_groups`) finds copies that were scaled or encoded anew. Hashes of
parts find those that were cropped, mirrored, captioned or framed: images with a similar part are
candidates (`candidates`), and they are near-duplicates if most of their details coincide when one
is laid over the other (`alignment`).
"""
