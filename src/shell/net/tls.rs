//! TLS 1.3 between two node keys, with raw public keys instead of certificates.
//!
//! Rules:
//! 1. each end's credential is its Ed25519 key (RFC 7250); who cannot prove one is not connected;
//! 2. weak keys, chains and anything but an Ed25519 public key are refused while the handshake runs;
//! 3. a dialler shows its own key only after the listener's key was accepted (RFC 8446 section 4.4.2);
//! 4. nothing is resumed: every connection proves the keys anew;
//! 5. a listener that speaks none of the offered versions goes on without one, so that both learn who the other is: it
//!    departs there from RFC 7301 section 3.2, which would end the handshake before any key is shown.

use std::fmt;
use std::sync::{Arc, LazyLock};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use futures_rustls::rustls;
use futures_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, Signer};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureAlgorithm, SignatureScheme, version::TLS13,
};

use super::socket::Socket;
use crate::base::NodeId;
use crate::wire::hello::EXPORTER_LABEL;
use crate::wire::versions::{SPOKEN_MAX, Spoken};

/// What comes before the 32 key bytes in the public key's DER form: RFC 8410 section 4.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Plaintext that one write may hand to TLS before it waits: four full batches of records, one system call each.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// Whose key is accepted.
pub(super) type Accept = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

/// A connected stream and who is at its other end.
pub(super) struct Secured {
    pub(super) stream: TlsStream<Socket>,
    pub(super) peer: NodeId,
    /// What both speak; `None`: they have no version in common.
    pub(super) spoken: Option<Spoken>,
    /// What the dialler offered, where this end listens.
    pub(super) offered: Vec<Spoken>,
    /// Keying material that only the two ends of this connection know.
    pub(super) binding: [u8; 32],
}

/// Connects as the dialler; `accept` says which listener is the right one.
pub(super) async fn connect(
    socket: Socket,
    key: &SigningKey,
    speaks: &[Spoken],
    accept: Accept,
) -> Result<Secured, std::io::Error> {
    let config = client_config(key, speaks, accept).map_err(std::io::Error::other)?;
    // The name is required by the interface and sent nowhere.
    let name = ServerName::try_from("lanyard.invalid").expect("a valid name");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    stream.get_mut().1.set_buffer_limit(Some(WRITE_BUFFER_BYTES));
    secured(stream.into(), Vec::new())
}

/// Whether the listener ended a handshake because it speaks none of the offered versions.
pub(super) fn is_no_version(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}

/// Connects as the listener, speaking the first of `speaks` that is offered; every sound key is accepted, the caller
/// decides.
pub(super) async fn accept(socket: Socket, key: &SigningKey, speaks: &[Spoken]) -> Result<Secured, std::io::Error> {
    let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let names = begun.client_hello().alpn().into_iter().flatten();
    let offered: Vec<Spoken> = names.take(SPOKEN_MAX).filter_map(Spoken::read).collect();
    let common: Vec<Spoken> = speaks.iter().copied().filter(|spoken| offered.contains(spoken)).take(1).collect();
    let config = server_config(key, &common).map_err(std::io::Error::other)?;
    let mut stream = begun.into_stream(Arc::new(config)).await?;
    stream.get_mut().1.set_buffer_limit(Some(WRITE_BUFFER_BYTES));
    secured(stream.into(), offered)
}

fn secured(stream: TlsStream<Socket>, offered: Vec<Spoken>) -> Result<Secured, std::io::Error> {
    let invalid = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let (_, session) = stream.get_ref();
    // TLS itself refuses a name that this end did not offer.
    let spoken = session.alpn_protocol().and_then(Spoken::read);
    let credential = session.peer_certificates().and_then(|chain| chain.first());
    let peer = credential.and_then(|der| node_of(der)).ok_or_else(|| invalid("the peer proved no key"))?;
    let binding = match &stream {
        TlsStream::Client(client) => client.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None),
        TlsStream::Server(server) => server.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None),
    }
    .map_err(std::io::Error::other)?;
    Ok(Secured { stream, peer, spoken, offered, binding })
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

fn client_config(key: &SigningKey, speaks: &[Spoken], accept: Accept) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(accept)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(credential(key))));
    config.alpn_protocols = speaks.iter().map(|spoken| spoken.name()).collect();
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(key: &SigningKey, speaks: &[Spoken]) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier::new(Arc::new(|_| true))))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(credential(key))));
    config.alpn_protocols = speaks.iter().map(|spoken| spoken.name()).collect();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn credential(key: &SigningKey) -> Arc<CertifiedKey> {
    let key = Arc::new(NodeKey(key.clone()));
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki(&key.0.verifying_key()))], key))
}

fn spki(key: &VerifyingKey) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), key.as_bytes()].concat()
}

/// The node whose public key this is; `None` for anything but the one form of a strong key.
fn node_of(der: &[u8]) -> Option<NodeId> {
    let key: [u8; 32] = der.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    let point = VerifyingKey::from_bytes(&key).ok()?;
    // A second encoding of a key would be a second name for its node.
    let one_form = point.to_edwards().compress().to_bytes() == key;
    (one_form && !point.is_weak()).then_some(NodeId(key))
}

/// The node key as rustls wants it.
struct NodeKey(SigningKey);

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(secret)")
    }
}

impl rustls::sign::SigningKey for NodeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(Self(self.0.clone())) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(spki(&self.0.verifying_key())))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for NodeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Accepts exactly the raw Ed25519 keys that `accept` accepts, in both directions.
struct Verifier {
    accept: Accept,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    fn new(accept: Accept) -> Self {
        Self { accept, algorithms: provider().signature_verification_algorithms }
    }

    fn check(&self, end: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let node = node_of(end).filter(|_| chain.is_empty()).ok_or(CertificateError::BadEncoding)?;
        if !(self.accept)(node) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }

    fn verify(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(end.as_ref()),
            signed,
            &self.algorithms,
        )
    }
}

fn no_tls12() -> Error {
    Error::General("only TLS 1.3 is spoken".into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end, chain).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _end: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, end, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end, chain).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _end: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, end, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_names_its_node() {
        let key = SigningKey::from_bytes(&[7; 32]);
        assert_eq!(node_of(&spki(&key.verifying_key())), Some(NodeId(key.verifying_key().to_bytes())));
    }

    #[test]
    fn anything_but_the_one_form_of_a_strong_key_is_refused() {
        let good = spki(&SigningKey::from_bytes(&[7; 32]).verifying_key());
        let mut other_algorithm = good.clone();
        other_algorithm[8] = 0x6f;
        let mut neutral_point = good.clone();
        neutral_point[12..].copy_from_slice(&[&[1][..], &[0; 31]].concat());
        let mut not_a_point = good.clone();
        not_a_point[12..].fill(0xff);
        let with_more = [good.as_slice(), &[0]].concat();
        for bad in [&other_algorithm, &neutral_point, &not_a_point, &with_more, &good[..43].to_vec(), &Vec::new()] {
            assert_eq!(node_of(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn a_chain_or_an_unwanted_key_is_refused() {
        let der = CertificateDer::from(spki(&SigningKey::from_bytes(&[7; 32]).verifying_key()));
        let open = Verifier::new(Arc::new(|_| true));
        let shut = Verifier::new(Arc::new(|_| false));
        assert!(open.check(&der, &[]).is_ok());
        assert!(open.check(&der, std::slice::from_ref(&der)).is_err());
        assert!(shut.check(&der, &[]).is_err());
    }
}
