"""What a build is told of the host's way to package indexes."""

from __future__ import annotations

from images.host import debian_mirror, host_network


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
