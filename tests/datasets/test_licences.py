from pipeline.datasets.licences import LICENCE_NAMES, LICENCES, licence_url


def test_every_id_of_flickr_has_one_name() -> None:
    assert sorted(LICENCE_NAMES) == list(range(17))
    assert len(LICENCES) == len(LICENCE_NAMES)


def test_the_ids_are_those_of_flickr() -> None:
    """https://www.flickr.com/services/api/flickr.photos.licenses.getInfo.html"""
    assert (LICENCE_NAMES[0], LICENCE_NAMES[4], LICENCE_NAMES[9]) == (
        "All rights reserved",
        "CC BY 2.0",
        "CC0 1.0",
    )


def test_every_licence_but_all_rights_reserved_has_a_url() -> None:
    unread = {name for name in LICENCES if not (licence_url(name) or "").startswith("https://")}
    assert unread == {"All rights reserved"}


def test_the_url_of_a_creative_commons_licence_has_its_name() -> None:
    for name in LICENCES:
        if name.startswith("CC BY"):
            rights, version = name.removeprefix("CC ").lower().split()
            assert licence_url(name) == f"https://creativecommons.org/licenses/{rights}/{version}/"


def test_no_two_licences_share_a_url() -> None:
    texts = [licence_url(name) for name in LICENCES]
    assert len(set(texts)) == len(texts)


def test_an_unknown_licence_has_no_url() -> None:
    assert licence_url("Mine") is None
