"""A certificate authority for a test, with a certificate for a server on 127.0.0.1 and one for a client."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """PEM files: `<folder>/{ca,server,client}.crt` and `.key`."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def etcd_options(self) -> dict[str, str]:
        """For a member whose clients must show a certificate."""
        return {
            "cert-file": str(self.path("server.crt")),
            "key-file": str(self.path("server.key")),
            "trusted-ca-file": str(self.path("ca.crt")),
            "client-cert-auth": "true",
        }

    def client_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=self.path("ca.crt").read_bytes(),
            private_key=self.path("client.key").read_bytes(),
            certificate_chain=self.path("client.crt").read_bytes(),
        )

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.path("ca.crt")))
        context.load_cert_chain(self.path("client.crt"), self.path("client.key"))
        return context


def make_certificates(folder: Path) -> Certificates:
    """A fresh authority and its two certificates, good for an hour."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Hotsite test authority")
    ca = (
        _builder(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    _write(folder, "ca", ca, ca_key)
    for name, usage in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        # etcd's own HTTP gateway uses the server's certificate as a client of itself.
        usages = [usage, ExtendedKeyUsageOID.CLIENT_AUTH] if name == "server" else [usage]
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        certificate = (
            _builder(_name(name), ca_name, key)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        _write(folder, name, certificate, key)
    return Certificates(folder=folder)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
