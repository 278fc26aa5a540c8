"""What a build is told of the host's way to package indexes."""

from __future__ import annotations

import pytest

from images.host import HostNetwork, Reach, debian_mirror, host_network, host_sources, place_of, repositories


def test_index_settings_are_passed_and_paths_are_not(tmp_path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    network = host_network(
        {
            "PIP_INDEX_URL": "https://index.example/simple",
            "PIP_FIND_LINKS": "/opt/wheels https://wheels.example/x",
            "PIP_CERT": str(bundle),
            "PIP_TARGET": "/somewhere",
            "HTTPS_PROXY": "http://proxy.example:3128",
            "AWS_SECRET_ACCESS_KEY": "secret",
        },
        config_files=[],
    )
    assert network.bundle == bundle
    assert network.environment == {
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_FIND_LINKS": "https://wheels.example/x",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }
    assert network.left_out == ["PIP_FIND_LINKS=/opt/wheels https://wheels.example/x"]


def test_pip_files_are_read_and_the_environment_wins(tmp_path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://one.example/simple\ntimeout = 7\ncert = /gone.pem\n"
        "[install]\nextra-index-url =\n  https://two.example/simple\n  https://three.example/simple\n"
        "[list]\nformat = json\n"
    )
    network = host_network({"PIP_TIMEOUT": "9"}, config_files=[file])
    assert network.environment == {
        "PIP_INDEX_URL": "https://one.example/simple",
        "PIP_TIMEOUT": "9",
        "PIP_EXTRA_INDEX_URL": "https://two.example/simple https://three.example/simple",
    }


def test_a_broken_pip_file_is_passed_over(tmp_path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("index-url = before any section\n")
    assert host_network({}, config_files=[file]).environment == {}


def test_the_mirror_comes_from_either_form_of_sources(tmp_path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    assert debian_mirror(tmp_path) is None
    (tmp_path / "sources.list.d/vendor.list").write_text(
        "deb [arch=amd64] https://vendor.example/debian-x any main\n"
    )
    (tmp_path / "sources.list").write_text("# deb http://old.example/debian any main\n")
    assert debian_mirror(tmp_path) is None
    (tmp_path / "sources.list").write_text("deb [signed-by=/k] http://one.example/debian/ any main contrib\n")
    assert debian_mirror(tmp_path) == "http://one.example/debian"
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "# a comment: with a colon\nTypes: deb\nURIs: http://sec.example/debian-security\nComponents: main\n\n"
        "Types: deb deb-src\nURIs: http://two.example/debian\nSuites: any\nComponents: main\nEnabled: no\n\n"
        "Types: deb\nURIs: http://three.example/debian\nSuites: any\nComponents: main\n"
    )
    assert debian_mirror(tmp_path) == "http://three.example/debian"


def test_a_builder_is_told_one_proxy_and_none_of_the_hosts() -> None:
    network = host_network(
        {
            "HTTPS_PROXY": "http://user:secret@proxy.example:3128",
            "no_proxy": "index.example",
            "PIP_PROXY": "http://p",
        },
        config_files=[],
    )
    told = network.through("http://127.0.0.1:3128").environment
    assert "secret" not in str(told)
    assert {told[name] for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")} == {
        "http://127.0.0.1:3128"
    }
    assert (told["NO_PROXY"], told["no_proxy"], "PIP_PROXY" in told) == ("", "", False)


def test_a_build_reaches_the_indexes_of_the_hosts_pip() -> None:
    network = HostNetwork(
        None,
        {
            "PIP_INDEX_URL": "https://user:word@Index.Example/simple",
            "PIP_EXTRA_INDEX_URL": "http://10.0.0.5:8080/simple https://two.example/simple",
            "PIP_FIND_LINKS": "https://[fd00::1]/wheels",
        },
    )
    hosts = ("10.0.0.5:8080", "two.example:443", "[fd00::1]:443", "index.example:443")
    assert network.indexes() == Reach(hosts, hosts)


def test_the_public_index_has_its_files_elsewhere() -> None:
    found = HostNetwork(None).indexes()
    assert [place.partition(".")[0] for place in found.hosts] == ["pypi", "files"]
    assert found.hosts == found.private
    named = HostNetwork(None, {"PIP_INDEX_URL": f"https://{found.hosts[0].partition(':')[0]}/simple"})
    assert set(named.indexes().hosts) == set(found.hosts)


@pytest.mark.parametrize(
    "url", ["/opt/wheels", "file:///opt/wheels", "ftp://a.example/x", "https:///simple", "http://a.example:port/"]
)
def test_what_leads_to_no_host_is_no_place(url: str) -> None:
    assert place_of(url) is None


def test_apt_goes_where_its_files_of_sources_say(tmp_path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian x main\ndeb [signed-by=/k] http://one.example/debian/ x main\n"
    )
    (tmp_path / "sources.list.d/a.sources").write_text(
        "Types: deb\nURIs: https://two.example:8443/debian\n https://three.example/debian\nSuites: x\n"
    )
    (tmp_path / "sources.list.d/a.conf").write_text("http://none.example/")
    assert host_sources(tmp_path) == ["two.example:8443", "three.example:443", "one.example:80"]
    assert repositories({"x.list": "deb cdrom:[a]/ x main\ndeb file:///x y main\n"}) == []
