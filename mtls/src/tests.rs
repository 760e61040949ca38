//! Whole handshakes in memory, between our ends and between one of ours and a foreign one.

use super::*;
use proptest::prelude::*;
use rustls::{
    CertificateError, ClientConnection, Error, PeerIncompatible, ServerConnection,
    pki_types::{CertificateDer, ServerName},
    sign::CertifiedKey,
};
use std::io::{Read, Write};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// The node 1, which knows the key 2.
fn node() -> ServerConfig {
    let known = key(2).public();
    server(&key(1), Arc::new(move |asked| *asked == known)).unwrap()
}

/// An operator who wants the node 1.
fn operator(seed: u8) -> ClientConfig {
    client(&key(seed), key(1).public()).unwrap()
}

/// What comes of a handshake and a word in it: what the server heard, or whose mistake ended it.
/// `touch` may change what goes to the server and to the client.
fn met(
    client: ClientConfig,
    server: ServerConfig,
    touch: &mut dyn FnMut(bool, &mut Vec<u8>),
) -> Result<String, (&'static str, Error)> {
    let name = ServerName::try_from("alia").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    client.writer().write_all(b"hello").unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        touch(true, &mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().map_err(|error| ("server", error))?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        touch(false, &mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().map_err(|error| ("client", error))?;
        }
    }
    let mut heard = vec![0; 5];
    // A record whose length was changed is waited for.
    let silence = |error: std::io::Error| ("nobody", Error::General(error.to_string()));
    server.reader().read_exact(&mut heard).map_err(silence)?;
    let keys = [server.peer_certificates(), client.peer_certificates()];
    let keys = keys.map(|shown| certificate::key_of(&shown.unwrap()[0]).unwrap());
    assert_eq!(keys, [key(2).public(), key(1).public()]);
    Ok(String::from_utf8(heard).unwrap())
}

fn meet(client: ClientConfig, server: ServerConfig) -> Result<String, (&'static str, Error)> {
    met(client, server, &mut |_, _| ())
}

const STRANGER: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
const BAD_SIGNATURE: Error = Error::InvalidCertificate(CertificateError::BadSignature);

#[test]
fn two_that_know_each_other_speak() {
    assert_eq!(meet(operator(2), node()), Ok("hello".into()));
}

#[test]
fn a_key_that_the_node_does_not_know_is_refused() {
    assert_eq!(meet(operator(3), node()), Err(("server", STRANGER)));
}

#[test]
fn a_node_of_another_key_is_refused() {
    let elsewhere = client(&key(2), key(7).public()).unwrap();
    assert_eq!(meet(elsewhere, node()), Err(("client", STRANGER)));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let silent = client_of_nobody(key(1).public()).unwrap();
    assert_eq!(meet(silent, node()), Err(("server", Error::NoCertificatesPresented)));
}

/// Shows the certificate of one key, and signs with another.
fn impostor(shown: u8, signs: u8) -> Arc<SingleCertAndKey> {
    let signer = certificate::certified(&key(signs)).key;
    let certified = CertifiedKey::new(vec![certificate::of(&key(shown))], signer);
    Arc::new(SingleCertAndKey::from(certified))
}

#[test]
fn who_shows_anothers_certificate_cannot_sign_with_its_key() {
    let mut client = operator(2);
    client.client_auth_cert_resolver = impostor(2, 3);
    assert_eq!(meet(client, node()), Err(("server", BAD_SIGNATURE)));
    let mut server = node();
    server.cert_resolver = impostor(1, 3);
    assert_eq!(meet(operator(2), server), Err(("client", BAD_SIGNATURE)));
}

/// Replaces the one place where these bytes stand.
fn altered(certificate: &[u8], from: &[u8], to: &[u8]) -> CertificateDer<'static> {
    let at = certificate.windows(from.len()).position(|part| part == from).unwrap();
    let mut bytes = certificate.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    CertificateDer::from(bytes)
}

#[test]
fn dates_are_not_looked_at_as_a_nodes_clock_may_be_wrong_and_the_key_is_what_is_known() {
    let expired = altered(&certificate::of(&key(2)), b"99991231235959Z", b"19710101000000Z");
    let signer = certificate::certified(&key(2)).key;
    let mut client = operator(2);
    client.client_auth_cert_resolver =
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![expired], signer)));
    assert_eq!(meet(client, node()), Ok("hello".into()));
}

#[test]
fn whatever_is_changed_on_the_way_no_other_word_arrives() {
    // Every record of both sides, first and last bytes of it and some between.
    let (mut changed, mut refused) = (0, 0);
    for number in 0..4 {
        for place in 0..32 {
            let mut at = 0;
            let mut done = false;
            let outcome = met(operator(2), node(), &mut |_, bytes| {
                if bytes.is_empty() {
                    return;
                }
                if at == number {
                    let byte = bytes.len() * place / 32;
                    bytes[byte] ^= 0x10;
                    done = true;
                }
                at += 1;
            });
            changed += u32::from(done);
            refused += u32::from(outcome.is_err());
            // Some bytes mean nothing: a record's version (RFC 8446, 5.1), the dummy between.
            assert!(outcome.is_err() || outcome == Ok("hello".into()), "{number}, {place}");
        }
    }
    assert!(changed >= 64 && refused * 20 >= changed * 19, "{refused} of {changed}");
}

/// A ClientHello of TLS 1.2 (RFC 5246): ECDHE with AES-GCM, x25519, ed25519; no other version.
fn client_hello_1_2() -> Vec<u8> {
    let extensions: &[&[u8]] = &[
        &[0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x1d],
        &[0x00, 0x0b, 0x00, 0x02, 0x01, 0x00],
        &[0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x08, 0x07],
        &[0x00, 0x17, 0x00, 0x00],
    ];
    let extensions = extensions.concat();
    let mut body = vec![0x03, 0x03];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0x00, 0x04, 0xc0, 0x2b, 0xc0, 0x2f, 0x01, 0x00]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend((body.len() as u16).to_be_bytes());
    handshake.extend(body);
    let mut record = vec![0x16, 0x03, 0x01];
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    record
}

#[test]
fn tls_1_2_is_refused() {
    let mut server = ServerConnection::new(Arc::new(node())).unwrap();
    server.read_tls(&mut &client_hello_1_2()[..]).unwrap();
    let error = server.process_new_packets().unwrap_err();
    let wanted = PeerIncompatible::SupportedVersionsExtensionRequired;
    let off = PeerIncompatible::Tls12NotOfferedOrEnabled;
    assert!(error == Error::from(wanted) || error == Error::from(off), "{error:?}");
}

#[test]
fn a_certificate_carries_its_key_and_is_signed_by_it() {
    let made = certificate::of(&key(5));
    assert_eq!(made.len(), 206);
    assert_eq!(certificate::key_of(&made), Some(key(5).public()));
    let (tbs, signature) = (&made[3..132], &made[142..]);
    let signature = protocol::Signature(signature.try_into().unwrap());
    assert_eq!(key(5).public().verify(tbs, &signature), Ok(()));
    // Another kind of key (X25519, 1.3.101.110) is none.
    let other = altered(&made, &[0x70, 0x03, 0x21, 0x00], &[0x6e, 0x03, 0x21, 0x00]);
    assert_eq!(certificate::key_of(&other), None);
}

proptest! {
    #[test]
    fn no_certificate_panics_and_none_has_another_key_than_it_shows(
        foreign: Vec<u8>, at in 0usize..206, byte: u8,
    ) {
        prop_assert_eq!(certificate::key_of(&CertificateDer::from(foreign)), None);
        let mut changed = certificate::of(&key(5)).to_vec();
        changed[at] = byte;
        if let Some(found) = certificate::key_of(&CertificateDer::from(changed.clone())) {
            prop_assert!(changed.windows(32).any(|part| part == found.0));
        }
    }
}
