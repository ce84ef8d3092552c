//! A link by rustls with aws-lc-rs over a plain socket, with multistream and Yamux by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{tls::certificate, Multiaddr, PeerId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

const MULTISTREAM: &str = "/multistream/1.0.0";
const TLS: &str = "/tls/1.0.0";
const YAMUX: &str = "/yamux/1.0.0";
const GOSSIP: &str = "/meshsub/1.2.0";
const SYN: u8 = 1;
const STREAM: u32 = 1;

pub fn connect(group: &str, alpn: &str, address: Multiaddr) -> Result<String, String> {
    let (mut socket, peer) = open(address);
    select(&mut socket, TLS)?;
    let config = config(group, alpn, peer);
    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let client = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    let mut link = StreamOwned::new(client, socket);
    while link.conn.is_handshaking() {
        link.conn.complete_io(&mut link.sock).map_err(|error| error.to_string())?;
    }
    let group = link.conn.negotiated_key_exchange_group().expect("a group").name();
    let chosen = String::from_utf8_lossy(link.conn.alpn_protocol().unwrap_or(b"none")).into_owned();
    if chosen == "libp2p" {
        select(&mut link, YAMUX)?;
    }
    let protocol = open_stream(&mut link)?;
    Ok(format!("{peer} {group:?} {chosen} {protocol}"))
}

fn open(address: Multiaddr) -> (TcpStream, PeerId) {
    let parts: Vec<Protocol> = address.iter().collect();
    let [Protocol::Ip4(ip), Protocol::Tcp(port), Protocol::P2p(peer)] = parts[..] else {
        panic!("an address such as /ip4/127.0.0.1/tcp/9000/p2p/PEER");
    };
    let socket = TcpStream::connect((ip, port)).expect("a node that listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    (socket, peer)
}

/// Agrees on a protocol by multistream-select.
fn select(stream: &mut (impl Read + Write), protocol: &str) -> Result<(), String> {
    let proposal = [line(MULTISTREAM), line(protocol)].concat();
    stream.write_all(&proposal).map_err(|error| error.to_string())?;
    for expected in [MULTISTREAM, protocol] {
        let answer = read_line(stream)?;
        if answer != expected {
            return Err(format!("{expected} was answered by {answer}"));
        }
    }
    Ok(())
}

fn line(text: &str) -> Vec<u8> {
    [&[text.len() as u8 + 1], text.as_bytes(), b"\n"].concat()
}

fn read_line(stream: &mut impl Read) -> Result<String, String> {
    let mut length = [0];
    stream.read_exact(&mut length).map_err(|error| error.to_string())?;
    let mut text = vec![0; length[0].into()];
    stream.read_exact(&mut text).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Opens a stream for gossip, and waits until the node takes it.
fn open_stream(stream: &mut (impl Read + Write)) -> Result<String, String> {
    let body = [line(MULTISTREAM), line(GOSSIP)].concat();
    let frame = [header(0, SYN, STREAM, body.len() as u32), body].concat();
    stream.write_all(&frame).map_err(|error| error.to_string())?;
    let mut answered = Vec::new();
    while answered != [line(MULTISTREAM), line(GOSSIP)].concat() {
        let mut head = [0; 12];
        stream.read_exact(&mut head).map_err(|error| error.to_string())?;
        let (kind, of) = (head[1], u32::from_be_bytes(head[4..8].try_into().unwrap()));
        if kind != 0 {
            continue; // A window or a ping, whose last member is no length.
        }
        let mut data = vec![0; u32::from_be_bytes(head[8..].try_into().unwrap()) as usize];
        stream.read_exact(&mut data).map_err(|error| error.to_string())?;
        if of == STREAM {
            answered.extend(data);
        }
    }
    Ok(GOSSIP.to_owned())
}

/// The head of a Yamux frame: version, type, flags, stream, length.
fn header(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
    [&[0, kind, 0, flags][..], &stream.to_be_bytes(), &length.to_be_bytes()].concat()
}

fn config(group: &str, alpn: &str, peer: PeerId) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![match group {
        "X25519MLKEM768" => aws_lc_rs::kx_group::X25519MLKEM768,
        "X25519" => aws_lc_rs::kx_group::X25519,
        other => panic!("X25519MLKEM768 or X25519, not {other}"),
    }];
    let (own, key) = certificate::generate(&Keypair::generate_ed25519()).expect("a certificate");
    // What asks rustls whether the two fit stumbles over the extension, which is critical.
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let own = SingleCertAndKey::from(CertifiedKey::new(vec![own], key));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Expected(peer)))
        .with_client_cert_resolver(Arc::new(own));
    config.enable_sni = false;
    config.alpn_protocols = alpn.split(',').map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Takes the certificate of one peer, by the rules of libp2p.
#[derive(Debug)]
struct Expected(PeerId);

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer,
        further: &[CertificateDer],
        _name: &ServerName,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let peer = certificate::parse(certificate)?.peer_id();
        if peer != self.0 || !further.is_empty() {
            return Err(rustls::Error::General(format!("{peer} with {} more", further.len())));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 alone is offered")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(certificate)?.verify_signature(
            signed.scheme,
            message,
            signed.signature(),
        )?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}
