"""Who may open the demo's page and where a camera works: options, warnings, the certificate.

Nothing here opens a port.
"""

import shutil
import ssl
import subprocess
from contextlib import ExitStack

import gradio as gr
import pytest

import demo
from expression.app import certificate, serving
from expression.app.certificate import make_certificate
from expression.app.serving import Serving


@pytest.fixture
def files(tmp_path):
    """A certificate and its key; nobody reads them here."""
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path in paths:
        path.write_text("")
    return [str(path) for path in paths]


@pytest.fixture(autouse=True)
def without_password(monkeypatch):
    monkeypatch.delenv(demo.PASSWORD, raising=False)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--ssl-keyfile", "KEY"], "belong together"),
        (["--ssl-certfile", "CERT"], "belong together"),
        (["--ssl-certfile", "CERT", "--ssl-keyfile", "none.pem"], "no file none.pem"),
        (["--self-signed", "--ssl-certfile", "CERT", "--ssl-keyfile", "KEY"], "leave out"),
        (["--share", "--self-signed"], "leave out"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(arguments, told, files, capsys):
    named = dict(zip(("CERT", "KEY"), files, strict=True))
    with pytest.raises(SystemExit, match="2"):
        demo.read_options([named.get(word, word) for word in arguments])
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


def launched(monkeypatch, *arguments):
    """What gradio is asked for; nothing is served."""
    asked = {}
    monkeypatch.setattr(demo, "page", lambda handlers, shared: gr.Blocks())
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **settings: asked.update(settings))
    demo.main(list(arguments))
    return asked


def test_alone_it_is_open_to_this_machine_only(monkeypatch, capsys):
    asked = launched(monkeypatch)
    assert asked["server_name"] == "127.0.0.1" and asked["share"] is False
    assert not {"auth", "ssl_certfile"} & asked.keys()
    assert "note:" not in capsys.readouterr().out  # nobody else can come: no warning


def test_a_certificate_and_a_password_reach_gradio(monkeypatch, files, capsys):
    options = ["--ssl-certfile", files[0], "--ssl-keyfile", files[1], "--port", "7999"]
    asked = launched(monkeypatch, *options, "--password", "word", "--user", "me")
    assert [asked["ssl_certfile"], asked["ssl_keyfile"]] == files
    assert asked["auth"] == ("me", "word")
    assert "https://127.0.0.1:7999" in capsys.readouterr().out


def test_the_password_of_the_environment_counts_and_is_not_printed(monkeypatch, capsys):
    # As an argument, other users of the machine read it in the list of processes
    monkeypatch.setenv(demo.PASSWORD, "from-there")
    assert launched(monkeypatch)["auth"] == ("guest", "from-there")
    assert launched(monkeypatch, "--password", "given")["auth"] == ("guest", "given")
    assert "from-there" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "settings, told, not_told",
    [
        ({"share": True}, ["Gradio's server", "people who agree", "--password"], ["no camera"]),
        ({"host": "0.0.0.0"}, ["no camera", "people who agree", "--password"], ["Gradio"]),
        ({"host": "0.0.0.0", "self_signed": True, "password": "w"}, ["people who agree"],
         ["no camera", "--password"]),
        ({"host": "0.0.0.0", "password": "w"}, ["can be read", "guest"], []),
        ({"password": "w", "user": "ann"}, ["name ann"], ["people who agree"]),
        ({"self_signed": True}, ["--host 0.0.0.0"], ["people who agree"]),
        ({"host": "localhost"}, [], ["camera", "people"]),
    ],
)  # fmt: skip
def test_whoever_shows_it_to_others_is_warned_of_peoples_faces(settings, told, not_told):
    notes = " ".join(Serving(**settings).notes())
    assert [part for part in told if part not in notes] == []
    assert [part for part in not_told if part in notes] == []


def test_the_addresses_for_a_phone_are_told(monkeypatch):
    # "0.0.0.0" opens on no phone: what it needs is the address of this machine in its network
    monkeypatch.setattr(serving, "own_addresses", lambda: ["192.0.2.7", "2001:db8::7"])
    assert Serving("0.0.0.0", 80, self_signed=True).addresses() == [
        "https://127.0.0.1:80", "https://192.0.2.7:80", "https://[2001:db8::7]:80",
    ]  # fmt: skip


def test_the_page_says_through_whose_server_pictures_go(monkeypatch, served_folder):
    handlers = demo.make_handlers(served_folder)
    for shared in (False, True):
        blocks = demo.page(handlers, shared).blocks.values()
        words = " ".join(str(b.value) for b in blocks if isinstance(b, gr.Markdown))
        assert ("Gradio's server" in words) is shared
        assert ("no further than the machine" in words) is not shared


def test_help_says_what_works_where(capsys):
    with pytest.raises(SystemExit, match="0"):
        demo.read_options(["--help"])
    said = capsys.readouterr().out
    for option in ("--share", "--self-signed", "--ssl-certfile", "--password", "0.0.0.0"):
        assert said.count(option) >= 2, option  # in the list, and where a camera works


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate by openssl")
def test_a_certificate_is_made_for_names_and_addresses_and_goes_at_the_end(tmp_path):
    with ExitStack() as stack:
        settings = Serving(host="localhost", self_signed=True).launch_settings(stack)
        path, key = settings["ssl_certfile"], settings["ssl_keyfile"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path, key)  # raises where they do not fit
    for gone in (path, key):
        with pytest.raises(FileNotFoundError):
            open(gone)
    (tmp_path / "there").mkdir()
    made, key = make_certificate(tmp_path / "there", ["phone.test", "192.0.2.7", "phone.test"])
    command = ["openssl", "x509", "-in", made, "-noout", "-text"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text.count("DNS:phone.test") == 1 and "IP Address:192.0.2.7" in text
    assert key.stat().st_mode & 0o077 == 0  # nobody else reads the key


def test_without_openssl_one_sentence_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(certificate.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        launched(monkeypatch, "--self-signed")
    said = capsys.readouterr().err
    assert "openssl" in said and "--ssl-certfile" in said and said.count("\n") == 1
