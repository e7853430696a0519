"""The bill of materials is the lock, no more and no less, and the same every time."""

import json

EPOCH = 1_790_000_000


def test_the_bill_equals_the_lock(scripts):
    pins = scripts["lockfile"].read()
    bill = scripts["sbom"].of_lock(epoch=EPOCH)
    listed = {
        (c["name"], c["version"], h["content"])
        for c in bill["components"]
        for reference in c["externalReferences"]
        for h in reference["hashes"]
    }
    assert listed == {(p.name, p.version, digest) for p in pins for digest in p.sha256s}
    assert len(bill["components"]) == len(pins)


def test_it_says_who_asks_for_whom(scripts):
    bill = scripts["sbom"].of_lock(epoch=EPOCH)
    asks = {row["ref"].split("@")[0]: row["dependsOn"] for row in bill["dependencies"]}
    assert any(r.startswith("pkg:pypi/aiohttp@") for r in asks["pkg:pypi/sop-gateway"])
    assert any(r.startswith("pkg:pypi/yarl@") for r in asks["pkg:pypi/aiohttp"])
    known = {c["bom-ref"] for c in (*bill["components"], bill["metadata"]["component"])}
    assert {row["ref"] for row in bill["dependencies"]} == known
    assert {r for row in bill["dependencies"] for r in row["dependsOn"]} <= known


def test_every_licence_is_named_and_none_is_foreign_to_the_site(scripts):
    bill = scripts["sbom"].of_lock(epoch=EPOCH)
    text = scripts["sbom"].licences(bill)
    assert len(text.splitlines()) == len(bill["components"]) + 1
    lockfile = scripts["lockfile"]
    site = {
        p.name
        for p in lockfile.closure(lockfile.SITE_EXTRAS, lockfile.environment("3.11", "x86_64"))
    }
    gpl = {
        c["name"] for c in bill["components"] if c["licenses"][0]["expression"].startswith("GPL")
    }
    assert not gpl & site, "nothing under the GPL is shipped"


def test_the_same_lock_gives_the_same_bytes(scripts):
    sbom = scripts["sbom"]
    first, second = (sbom.encoded(sbom.of_lock(epoch=EPOCH)) for _ in range(2))
    assert first == second
    assert sbom.encoded(sbom.of_lock(epoch=EPOCH + 1)) != first


def test_a_wheelhouse_is_described_by_the_bytes_of_its_files(scripts, built):
    bill = scripts["sbom"].of_wheels(built, epoch=EPOCH)
    own = bill["metadata"]["component"]
    assert own["type"] == "application"
    (wheel,) = built.glob("*.whl")
    content = {h["alg"]: h["content"] for h in own["hashes"]}
    assert content["SHA-256"] == scripts["wheelhouse"].sha256(wheel)
    assert len(content["SHA-512"]) == 128
    json.loads(scripts["sbom"].encoded(bill))
