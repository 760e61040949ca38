//! TLS with the provisioner, once it took the node in: both are known by their keys, the node's
//! vouched for by a certificate that lasts for a day.

use crate::{
    http::{self, HttpError, Secured},
    kernel::Kernel,
    mac::Mac,
    stages::{command_line::Arguments, identity::Identity},
};
use protocol::{
    Digest, PublicKey, Signed,
    certificate::{Alive, CertificateRequest, NodeCertificate, Readings, Wish, Wished},
    signed::SignedError,
};
use std::{io, sync::Arc, time::Duration};

/// There is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SecuredError {
    /// No answer, or a refusal with the provisioner's own reason.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No randomness for a question.
    #[error("the kernel gave no randomness to ask for a certificate with: {0}")]
    Random(#[from] io::Error),
    /// The answer is not what it should be.
    #[error("the provisioner's certificate cannot be understood: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A signature, version or chain is wrong.
    #[error("the provisioner's certificate is not valid: {0}")]
    Signed(#[from] SignedError),
    /// Somebody else's answer, or an old one.
    #[error(
        "the certificate is not the provisioner's answer to us ({0}): look at what stands between"
    )]
    NotOurs(&'static str),
    /// It is none that TLS takes.
    #[error("the provisioner's certificate is of no use: {0}")]
    Tls(#[from] rustls::Error),
}

/// Asks for a certificate; gives how the provisioner is spoken to by it, and for how long.
pub async fn fetch(
    kernel: &dyn Kernel,
    arguments: &Arguments,
    identity: &Identity,
    mac: Mac,
) -> Result<(Secured, Duration), SecuredError> {
    let nonce = Digest(kernel.random()?);
    let request = CertificateRequest { mac: mac.to_string(), boot_id: identity.boot_id, nonce };
    let request = Signed::sign(&arguments.chain, request, &identity.node);
    let path = format!("/v1/machines/{mac}/certificate");
    let body = serde_json::to_vec(&request)?;
    let answer = http::post(&arguments.provisioner, &path, body).await?;
    let made = check(&answer, arguments, &identity.node.public(), nonce)?;
    let lasts = Duration::from_secs(made.seconds);
    let config = mtls::client_showing(&identity.node, made.certificate.into(), arguments.key)?;
    Ok((Secured { config: Arc::new(config), port: made.port }, lasts))
}

/// Reads an answer, and believes it only if it is the pinned provisioner's, to this question.
fn check(
    answer: &[u8],
    arguments: &Arguments,
    node: &PublicKey,
    nonce: Digest,
) -> Result<NodeCertificate, SecuredError> {
    let answer: Signed<NodeCertificate> = serde_json::from_slice(answer)?;
    if answer.signer != arguments.key {
        return Err(SecuredError::NotOurs("another key signed it"));
    }
    let made = answer.verify(&arguments.chain)?;
    if made.nonce != nonce {
        return Err(SecuredError::NotOurs("it answers another question"));
    }
    if made.node != *node {
        return Err(SecuredError::NotOurs("it is for another node"));
    }
    Ok(answer.body)
}

/// Says that the node is alive, what its sensors say, and whether its work is done; gives what the
/// provisioner wishes, which by TLS is known by the key that the node pins.
pub async fn alive(
    arguments: &Arguments,
    identity: &Identity,
    mac: Mac,
    secured: &Secured,
    readings: Option<Readings>,
    drained: bool,
) -> Result<Wish, SecuredError> {
    let path = format!("/v1/machines/{mac}/alive");
    let says = readings.is_some() || drained;
    let body = |readings, drained| {
        serde_json::to_vec(&Alive { boot_id: identity.boot_id, readings, drained })
    };
    let post = |body| http::post_by(&arguments.provisioner, Some(secured), &path, body);
    let answer = match post(body(readings, drained)?).await {
        // It is of a version that knows of neither.
        Err(HttpError::Refused { status: 422, .. }) if says => post(body(None, false)?).await?,
        answer => answer?,
    };
    // One of a version that wishes nothing says nothing.
    let wished =
        if answer.is_empty() { Wished::default() } else { serde_json::from_slice(&answer)? };
    Ok(wished.wish)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::enrolment::tests::{arguments, key};

    fn answer(change: impl FnOnce(&mut NodeCertificate), by: u8) -> Vec<u8> {
        let node = key(9).public();
        let mut made = NodeCertificate {
            node,
            nonce: Digest([4; 32]),
            certificate: vec![1, 2, 3],
            seconds: 86_400,
            port: 8443,
        };
        change(&mut made);
        let chain = "alia-test".parse().unwrap();
        serde_json::to_vec(&Signed::sign(&chain, made, &key(by))).unwrap()
    }

    #[test]
    fn a_certificate_is_taken_from_the_pinned_provisioner_for_this_question_alone() {
        let checked = |answer: &[u8]| {
            let arguments = arguments("http://127.0.0.1:1");
            check(answer, &arguments, &key(9).public(), Digest([4; 32]))
        };
        assert_eq!(checked(&answer(|_| (), 1)).unwrap().port, 8443);
        let other = |answer: Vec<u8>| checked(&answer).unwrap_err().to_string();
        assert!(other(answer(|_| (), 2)).contains("another key signed"));
        assert!(other(answer(|made| made.nonce = Digest([5; 32]), 1)).contains("question"));
        assert!(other(answer(|made| made.node = key(8).public(), 1)).contains("another node"));
        assert!(checked(b"{}").is_err());
    }
}
