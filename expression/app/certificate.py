"""A certificate for one run of the demo, so that phones in the same network get a camera.

Why: browsers give cameras to pages opened by https or at localhost only. Nobody else vouches for
such a certificate, so each browser warns once; what is sent is encrypted all the same.
The key is made by the `openssl` command: Python has nothing that makes one.
"""

import ipaddress
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["make_certificate", "own_addresses"]

DAYS = 30
SETTINGS = """
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = Expression Detect on this machine
[extensions]
subjectAltName = {names}
"""


def own_addresses() -> list[str]:
    """The addresses under which this machine's network knows it; [] without a network.

    Nothing is sent: connecting a UDP socket only asks the system which address it would use.
    """
    found = []
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((somewhere, 9))
                found.append(probe.getsockname()[0])
        except OSError:
            continue
    return [address for address in found if not ipaddress.ip_address(address).is_loopback]


def alternative_name(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def make_certificate(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """(certificate, key) as PEM files in `folder`, for these host names and addresses.

    Raises FileNotFoundError where there is no openssl, RuntimeError where it fails.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise FileNotFoundError(
            "a certificate is made by the openssl command, which is not installed here; install "
            "it, or give --ssl-certfile and --ssl-keyfile"
        )
    certificate, key, settings = (folder / name for name in ("cert.pem", "key.pem", "settings"))
    listed = ",".join(alternative_name(name) for name in dict.fromkeys(names))
    settings.write_text(SETTINGS.format(names=listed), encoding="utf-8")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(DAYS)]
    command += ["-config", str(settings), "-keyout", str(key), "-out", str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl made no certificate ({done.stderr.strip().splitlines()[-1:]})")
    key.chmod(0o600)
    return certificate, key
