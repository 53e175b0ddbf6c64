"""Pictures: any one upright and flat, or one sentence; no way into the own network.

The server of the web tests is local. A resolver that names a public address for
"public.example", and a dialler that reaches the local server all the same, stand for the web.
"""

import io
import socket
import ssl
import struct
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

import numpy as np
import pytest
import trustme
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from expression import download as fetching
from expression import file_kinds, picture_decoding
from expression.download import fetch
from expression.file_kinds import FORMATS
from expression.pictures import open_picture
from expression.preprocessing import Preprocess, flatten

PUBLIC = "93.184.215.14"


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def marked(mode="RGB", size=(60, 40)):
    """White, with the upper left corner black: shows every turn and mirroring."""
    image = Image.new(mode, size, "white")
    image.paste("black", (0, 0, 20, 10))
    return image


def png(width, height, *chunks):
    """A PNG that announces a size and holds nothing of it."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [head, *chunks, (b"IDAT", zlib.compress(b"\0" * 50)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


# --- pictures ---


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_stands_upright_and_is_not_turned_again(orientation, tmp_path):
    upright, turn = marked(), Image.Transpose
    stored = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "phone.jpg"
    image.save(path, exif=exif, quality=100, subsampling=0)
    opened = open_picture(path)
    assert opened.size == upright.size
    assert np.abs(np.asarray(opened, int) - np.asarray(upright, int)).max() < 40
    # The network's own preprocessing undoes EXIF too; it must find none left
    served, expected = (Preprocess(32).pixels(p).astype(int) for p in (opened, upright))
    assert np.abs(served - expected).max() < 40


def test_unreadable_exif_does_not_lose_the_picture():
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n4\nno hex")
    assert open_picture(encoded(marked(), pnginfo=text)).size == (60, 40)


def modes():
    noise = np.random.default_rng(0)
    deep = noise.integers(0, 65536, (6, 7)).astype(np.uint16)
    rgba = Image.fromarray(noise.integers(0, 256, (6, 7, 4)).astype(np.uint8))
    clear = rgba.convert("RGB").quantize(8)
    clear.info["transparency"] = 3
    return {
        "1": Image.new("1", (7, 6), 1),
        "L": rgba.convert("L"),
        "LA": rgba.convert("LA"),
        "P": rgba.convert("RGB").quantize(8),
        "P clear": clear,
        "RGB": rgba.convert("RGB"),
        "RGBA": rgba,
        "CMYK": rgba.convert("RGB").convert("CMYK"),
        "YCbCr": rgba.convert("RGB").convert("YCbCr"),
        "I;16": Image.fromarray(deep),
        "I": Image.fromarray(deep.astype(np.int32)),
        "F": Image.fromarray((deep / 257).astype(np.float32)),
    }


@pytest.mark.parametrize("name", modes())
def test_every_mode_becomes_what_the_network_was_trained_on(name):
    # Training flattens by the same rule; another rule here would show the network other pictures
    image = modes()[name]
    opened, expected = open_picture(image), flatten(image)
    assert opened.mode == expected.mode and opened.mode in ("L", "RGB")
    assert np.array_equal(np.asarray(opened), np.asarray(expected))
    assert opened is not image and opened.info == {"reduced": 1}


def test_transparency_is_white_and_sixteen_bits_keep_their_range(tmp_path):
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert open_picture(encoded(clear)).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.putpixel((1, 0), 1)
    opened = open_picture(encoded(palette, transparency=0))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 200)]
    deep = Image.fromarray(np.array([[0, 32896, 65535]], np.uint16))  # 32896 = 128 · 257
    assert list(open_picture(encoded(deep)).tobytes()) == [0, 128, 255]
    not_a_number = Image.fromarray(np.array([[np.nan, 70.0]], np.float32))
    assert list(open_picture(not_a_number).tobytes()) == [0, 70]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_shows_its_first_frame(form):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    animation = encoded(red, form, save_all=True, append_images=[blue])
    r, g, b = open_picture(animation).getpixel((4, 4))
    assert r > 240 and g < 10 and b < 10


def test_arrays_are_read_as_opencv_gives_them():
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[..., 0] = 255  # blue comes first
    opened = open_picture(frame)
    assert opened.size == (3, 2) and opened.getpixel((0, 0)) == (0, 0, 255)
    assert open_picture(frame[:, ::-1]).getpixel((0, 0)) == (0, 0, 255)  # not contiguous
    assert open_picture(frame[..., 0]).mode == "L"
    half = np.dstack([frame, np.full((2, 3), 0, np.uint8)])
    assert open_picture(half).getpixel((0, 0)) == (255, 255, 255)
    for bad in (frame.astype(float), frame[None], frame[..., :2], frame[:0]):
        with pytest.raises(ValueError, match=r"shape \(.*dtype.*give uint8"):
            open_picture(bad)


def test_a_large_photo_is_decoded_smaller_only_when_allowed():
    # One gray level: 40 megapixels that cost little to write
    photo = encoded(Image.new("L", (8000, 5000), 90), "JPEG")
    small = open_picture(photo, longest=2000)
    assert small.size == (2000, 1250) and small.info["reduced"] == 4
    assert open_picture(photo, longest=2001).size == (4000, 2500)  # never below `longest`
    thin = open_picture(encoded(Image.new("L", (900, 3)), "JPEG"), longest=100)
    assert max(thin.size) * thin.info["reduced"] == pytest.approx(900, abs=8)
    pair = encoded(marked(), "MPO", save_all=True, append_images=[marked()])  # many phones
    assert open_picture(pair, longest=30).size == (30, 20)
    plain = encoded(marked(), "JPEG")
    assert open_picture(plain).size == open_picture(plain, longest=60).size == (60, 40)
    with pytest.raises(ValueError, match="longest is 0"):
        open_picture(plain, longest=0)


HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1"


def test_what_cannot_be_opened_is_one_sentence_with_its_name(tmp_path, monkeypatch):
    for module in (file_kinds, picture_decoding):
        monkeypatch.setattr(module, "heic_installed", lambda: False)
    noise = Image.effect_noise((200, 200), 60)
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'
    cases = {
        "text.jpg": (b"Dear diary, this is no picture.", "not a picture that can be read"),
        "empty.png": (b"", "empty file"),
        "cut.jpg": (encoded(noise, "JPEG")[:3000], "broken picture"),
        "cut.png": (encoded(noise)[:3000], "broken picture"),
        "drawing.svg": (svg, "export it as PNG"),
        "phone.heic": (HEIC_HEAD, "HEIC picture; .*pillow-heif, or export it as JPEG"),
        "large.png": (png(14_000, 10_000), "has 140 megapixels and would take 560 MB"),
        "over.png": (png(11_300, 10_000), "at most 450 MB"),
        "bomb.png": (png(60_000, 60_000), "too many pixels to be opened safely"),
        "wordy.png": (
            png(8, 8, (b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000)))),
            "broken picture",
        ),
        # pillow hands EPS to another program, Ghostscript; it must not even be recognised
        "print.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason) as caught:
            open_picture(path)
        said = str(caught.value)
        assert said.startswith(str(path)) and "\n" not in said and ";" in said, said
    with pytest.raises(FileNotFoundError, match="there is no picture at .*none.png"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is a folder; give its pictures"):
        open_picture(str(tmp_path))
    with pytest.raises(ValueError, match="0 × 5 pixels"):
        open_picture(Image.new("RGB", (0, 5)))
    with pytest.raises(ValueError, match="cannot be read"):
        open_picture("x" * 5000)
    with pytest.raises(ValueError, match="cannot be read .*null"):
        open_picture("a\0.jpg")


def test_heic_opens_where_its_reader_is_installed(tmp_path):
    pytest.importorskip("pillow_heif")
    file_kinds.register_heic()
    path = tmp_path / "IMG_1.HEIC"
    marked(size=(128, 64)).save(path, "HEIF", quality=90)
    opened = open_picture(path)
    assert opened.size == (128, 64) and opened.mode == "RGB"
    assert max(opened.getpixel((5, 3))) < 60 and min(opened.getpixel((100, 50))) > 200
    assert open_picture(path.read_bytes()).tobytes() == opened.tobytes()
    (tmp_path / "cut.heic").write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cut.heic is a broken picture"):
        open_picture(tmp_path / "cut.heic")


def test_avif_is_not_taken_for_heic(tmp_path):
    # Both may call themselves "mif1"; the kinds they are compatible with tell them apart
    content = encoded(marked(), "AVIF")
    brands = int.from_bytes(content[:4], "big")
    assert not file_kinds.is_heic(content[:64])
    assert not file_kinds.is_heic(content[:8] + b"mif1" + content[12:64]) and brands < 64
    assert file_kinds.is_heic(HEIC_HEAD)
    assert file_kinds.looks_like_a_picture(content) and file_kinds.looks_like_a_picture(HEIC_HEAD)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_known_by_its_beginning(form):
    image = marked("L") if form == "PPM" else marked()
    assert file_kinds.looks_like_a_picture(encoded(image, form)[:64])
    assert not file_kinds.looks_like_a_picture(b"<!doctype html><title>a</title>")


@pytest.mark.filterwarnings("error")
def test_a_hundred_megapixels_are_not_refused_by_their_size():
    # Pillow warns from 89 on; a strict program would turn that into a refusal
    with pytest.raises(ValueError, match="broken picture"):  # the pixels are missing, no more
        open_picture(png(10_000, 10_000))


def test_what_is_no_file_is_refused_not_waited_for(tmp_path, special_files):
    for name, kind in special_files(tmp_path, ".jpg").items():
        if kind == "broken link":
            with pytest.raises((FileNotFoundError, ValueError), match=name):
                open_picture(tmp_path / name)
        else:
            with pytest.raises(ValueError, match=f"{name} is a {kind}"):
                open_picture(tmp_path / name)


def test_a_picture_half_read_by_others_is_named_by_its_file(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(Image.effect_noise((200, 200), 60))[:3000])
    with Image.open(path) as lazy, pytest.raises(ValueError, match="cut.png is a broken picture"):
        open_picture(lazy)


# --- web addresses ---

FACE = encoded(marked())


class Web(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_GET(self):
        self.server.hosts.append(self.headers["Host"])
        try:
            getattr(self, self.path.split("?")[0].strip("/").replace("%C3%BC", "ue"))()
        except OSError:
            pass  # the client hung up, as it should

    def face(self, **headers):
        self.answer(Content_Type="image/png", Content_Length=len(FACE), **headers)
        self.wfile.write(FACE)

    def fuer(self):
        self.face(Set_Cookie="a=b")

    def untyped(self):
        self.answer()
        self.wfile.write(FACE)

    def typed(self):
        kind = self.path.partition("?")[2]
        self.answer(Content_Type=unquote(kind))
        self.wfile.write(FACE)

    def typed_words(self):
        kind = self.path.partition("?")[2]
        self.answer(Content_Type=unquote(kind))
        self.wfile.write(b"%PDF-1.7 these are words, whatever the server calls them")

    def page(self):
        self.answer(Content_Type="text/html; charset=utf-8")

    def heavy(self):
        self.answer(Content_Type="image/png", Content_Length=10**9)

    def endless(self):
        self.answer(Content_Type="image/png")
        while True:
            self.wfile.write(bytes(65536))

    def drip(self):
        self.answer(Content_Type="image/png")
        self.slowly(b"x" * 100)

    def drip_headers(self):
        self.slowly(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100)

    def slowly(self, content):
        for byte in content:
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)

    def short(self):
        self.answer(Content_Type="image/png", Content_Length=len(FACE) + 5)
        self.wfile.write(FACE)

    def rude(self):
        self.wfile.write(b"\x1b[31m not HTTP\r\n\r\n")

    def gone(self):
        self.answer(404)

    def moved(self):
        self.answer(302, Location="/face")

    def circle(self):
        self.answer(302, Location="/circle")

    def inward(self):
        self.answer(302, Location=f"http://127.0.0.1:{self.server.server_port}/face")

    def to_file(self):
        self.answer(302, Location="file:///etc/hostname")


@pytest.fixture(scope="module")
def served():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads, server.hosts = True, []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def local(served):
    def get(path, **options):
        url = f"http://127.0.0.1:{served.server_port}/{path}"
        return fetch(url, **{"allow_private": True, "timeout": 5.0, **options})

    return get


@pytest.fixture
def web(served, monkeypatch):
    """A web in which public.example has a public address, and dialling it reaches the server."""
    dialled = []

    def connect(address, port, timeout):
        dialled.append(address)
        return socket.create_connection(("127.0.0.1", port), timeout)

    real = fetching.resolve
    monkeypatch.setattr(
        fetching, "resolve", lambda host, t: [PUBLIC] if ".example" in host else real(host, t)
    )
    monkeypatch.setattr(fetching, "connect", connect)
    return dialled


def test_a_picture_is_fetched_and_opened(local, served):
    for path in ("face", "untyped", "moved", "f%C3%BCr", "für", "face?size=1 2"):
        assert local(path) == FACE, path
    url = f"http://127.0.0.1:{served.server_port}/face"
    assert open_picture(url, allow_private=True).size == (60, 40)
    with pytest.raises(ValueError, match="--allow-private"):
        open_picture(url)


VAGUE = ["binary/octet-stream", "application/octet-stream", "APPLICATION/X-DOWNLOAD", "text/plain",
         "text/plain;charset=UTF-8", "jpg", "unknown/unknown", ""]  # fmt: skip


@pytest.mark.parametrize("kind", VAGUE)
def test_content_decides_where_the_server_does_not_know_the_type(local, kind):
    # Object stores call every file binary/octet-stream: its type says nothing, its bytes do
    assert local(f"typed?{quote(kind)}") == FACE
    with pytest.raises(ValueError, match="no picture; give the picture's own address"):
        local(f"typed_words?{quote(kind)}")


@pytest.mark.parametrize("kind", ["text/html", "application/json", "application/pdf", "video/mp4"])
def test_a_type_that_names_something_else_is_believed(local, kind):
    with pytest.raises(ValueError, match=f"'{kind}', no picture"):
        local(f"typed?{kind}")
    assert local("typed?image/jpg") == FACE  # no registered type, but meant as one


def test_another_kind_of_file_needs_no_picture_in_it(local):
    assert local("typed_words?text/plain", kinds=("text/",)).startswith(b"%PDF")
    assert local("typed_words?binary/octet-stream", kinds=("text/",)).startswith(b"%PDF")


def test_the_checked_address_is_the_one_connected_to(served, web):
    # Else a name could answer with a public address first and with an inner one next
    url = f"http://public.example:{served.server_port}/face"
    assert fetch(url) == FACE and web == [PUBLIC]
    assert served.hosts[-1] == url.split("/")[2]


def test_a_public_page_cannot_redirect_into_the_own_network(served, web):
    url = f"http://public.example:{served.server_port}"
    with pytest.raises(ValueError, match="leads to 127.0.0.1, an address inside the own network"):
        fetch(f"{url}/inward")
    with pytest.raises(ValueError, match="'file:///etc/hostname' is no web address"):
        fetch(f"{url}/to_file")
    assert web == [PUBLIC, PUBLIC]


def test_one_inner_address_among_public_ones_is_enough_to_refuse(web, monkeypatch):
    monkeypatch.setattr(fetching, "resolve", lambda host, timeout: [PUBLIC, "10.0.0.1"])
    with pytest.raises(ValueError, match="leads to 10.0.0.1"):
        fetch("http://public.example/")
    assert not web


def test_a_dead_address_leaves_time_for_the_next(served, web, monkeypatch):
    reach, dead = fetching.connect, "93.184.215.99"

    def connect(address, port, timeout):
        if address == dead:
            raise TimeoutError
        return reach(address, port, timeout)

    monkeypatch.setattr(fetching, "resolve", lambda host, timeout: [dead, PUBLIC])
    monkeypatch.setattr(fetching, "connect", connect)
    assert fetch(f"http://public.example:{served.server_port}/face") == FACE


@pytest.mark.parametrize(
    "host", ["[::1]", "127.0.0.1", "2130706433", "0x7f.1", "0", "localhost", "[::ffff:127.0.0.1]"]
)
def test_every_spelling_of_this_machine_is_refused(host, monkeypatch):
    monkeypatch.setattr(fetching, "connect", lambda *_: pytest.fail("connected"))
    with pytest.raises(ValueError, match="own network"):
        fetch(f"http://{host}/")


def test_only_the_open_internet_is_public():
    inner = (
        "10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 240.0.0.1 0.0.0.0 "
        "255.255.255.255 :: ::1 fe80::1 fe80::1%1 fc00::1 fec0::1 ff0e::1 ::ffff:10.0.0.1 "
        "::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: 2001:0:7f00:1::"
    ).split()
    assert [address for address in inner if fetching.is_public(address)] == []
    # Python's `is_global` says yes to each of these in some version from 3.10 to 3.14
    changing = (
        "192.88.99.1 192.0.0.8 192.0.0.9 192.0.0.170 192.31.196.1 192.52.193.1 192.175.48.1 "
        "100::1 100:0:0:1::1 2001:1::1 2001:3::1 2001:4:112::1 2001:20::1 2001:30::1 2002::1 "
        "64:ff9b::1 64:ff9b:1::1 2620:4f:8000::1 3fff::1 5f00::1 ::ffff:192.88.99.1"
    ).split()
    assert [address for address in changing if fetching.is_public(address)] == []
    for address in (PUBLIC, "2606:4700:4700::1111", "::ffff:8.8.8.8"):
        assert fetching.is_public(address), address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://public.example/a.jpg", "is no web address"),
        ("file:///etc/passwd", "is no web address"),
        ("http://", "is no web address"),
        ("http://[::1/", "is no web address"),
        ("http://public.example:99999/", "is no web address"),
        ("http://public.example/\r\nHost: a", "is no web address"),
        ("http://" + "a" * 70 + ".example/", "is no web address"),
        ("http://me:secret@public.example/", "holds a user name or password"),
        ("http://public.example@127.0.0.1/", "holds a user name or password"),
    ],
)
def test_addresses_that_are_refused_unasked(url, reason, monkeypatch):
    monkeypatch.setattr(fetching, "resolve", lambda *_: pytest.fail("resolved"))
    with pytest.raises(ValueError, match=reason) as caught:
        fetch(url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("page", ValueError, "'text/html', no picture"),
        ("heavy", ValueError, "larger than 20 MB"),
        ("endless", ValueError, "larger than 20 MB"),
        ("circle", ValueError, "leads on after 3 redirects"),
        ("gone", ConnectionError, "404 Not Found"),
        ("short", ConnectionError, "broke off"),
        ("rude", ConnectionError, "cannot be fetched"),
    ],
)
def test_answers_that_are_refused(local, path, error, reason):
    with pytest.raises(error, match=reason) as caught:
        local(path + "?token=secret")
    said = str(caught.value)
    assert "secret" not in said and ";" in said and said.isprintable(), said


@pytest.mark.parametrize("path", ["drip", "drip_headers"])
def test_a_server_that_drips_does_not_outlast_the_deadline(local, path):
    # Each byte comes within any timeout of one read; all of them would take 5 seconds
    with pytest.raises(TimeoutError, match="took longer than 0.3 s"):
        local(path, timeout=0.3)


def test_a_resolver_that_hangs_does_not_outlast_the_deadline(monkeypatch):
    awake = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: awake.wait(20) and [])
    with pytest.raises(TimeoutError, match="took longer than 0.3 s"):
        fetch("http://public.example/", timeout=0.3)
    awake.set()


def test_network_failures_are_oserrors_in_one_sentence(monkeypatch):
    def unknown(*args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionError, match="cannot be fetched.*; check the address"):
        fetch(f"http://127.0.0.1:{port}/", allow_private=True)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectionError, match="the host public.example is not known"):
        fetch("http://public.example/face.jpg")


def test_proxies_of_the_environment_are_not_asked(local, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert local("face") == FACE


def test_https_checks_the_certificate_against_the_name(served, web, monkeypatch, tmp_path):
    # Connecting to an address instead of a name must not lose what TLS promises about the name
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("public.example").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads, server.hosts = True, []
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        url = f"https://public.example:{server.server_port}/face"
        with pytest.raises(ConnectionError, match="certificate"):
            fetch(url, timeout=5)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert fetch(url, timeout=5) == FACE
        with pytest.raises(ConnectionError, match="certificate"):
            fetch(url.replace("public", "other"), timeout=5)
    finally:
        server.shutdown()
        server.server_close()
