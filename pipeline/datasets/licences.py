"""Flickr's licences by name: https://www.flickr.com/services/api/flickr.photos.licenses.getInfo.html"""

_CC = "https://creativecommons.org"

# Name -> (Flickr's id, URL of the text).
LICENCES = {
    "All rights reserved": (0, None),
    "CC BY-NC-SA 2.0": (1, f"{_CC}/licenses/by-nc-sa/2.0/"),
    "CC BY-NC 2.0": (2, f"{_CC}/licenses/by-nc/2.0/"),
    "CC BY-NC-ND 2.0": (3, f"{_CC}/licenses/by-nc-nd/2.0/"),
    "CC BY 2.0": (4, f"{_CC}/licenses/by/2.0/"),
    "CC BY-SA 2.0": (5, f"{_CC}/licenses/by-sa/2.0/"),
    "CC BY-ND 2.0": (6, f"{_CC}/licenses/by-nd/2.0/"),
    "No known copyright restrictions": (7, "https://www.flickr.com/commons/usage/"),
    "US Government work": (8, "https://www.usa.gov/government-copyright"),
    "CC0 1.0": (9, f"{_CC}/publicdomain/zero/1.0/"),
    "Public Domain Mark 1.0": (10, f"{_CC}/publicdomain/mark/1.0/"),
    "CC BY 4.0": (11, f"{_CC}/licenses/by/4.0/"),
    "CC BY-SA 4.0": (12, f"{_CC}/licenses/by-sa/4.0/"),
    "CC BY-ND 4.0": (13, f"{_CC}/licenses/by-nd/4.0/"),
    "CC BY-NC 4.0": (14, f"{_CC}/licenses/by-nc/4.0/"),
    "CC BY-NC-SA 4.0": (15, f"{_CC}/licenses/by-nc-sa/4.0/"),
    "CC BY-NC-ND 4.0": (16, f"{_CC}/licenses/by-nc-nd/4.0/"),
}
LICENCE_NAMES = {number: name for name, (number, _) in LICENCES.items()}


def licence_url(licence: str) -> str | None:
    """Return the URL of the text of a licence, or None if it is unknown."""
    return LICENCES.get(licence, (None, None))[1]
